"""The improved profile: every failure is an answer that says what happened, and a key means one turn for ever.

Ids are those of the store. A depth counts turns from the root in the store, and from 0 in the protocol.
"""

from __future__ import annotations

from typing import Final

from perdure.adapters.cxdb.codec.requests import (
    COMPRESSION_NONE,
    ENCODING_MSGPACK,
    AppendTurn,
    AttachFs,
    CreateContext,
    ForkContext,
    GetBefore,
    GetBlob,
    GetHead,
    GetLast,
    Hello,
    PutBlob,
    Request,
)
from perdure.adapters.cxdb.codec.responses import Answer, ContextHead, Failure, FsAttached, HelloAnswer, TurnAppended
from perdure.adapters.cxdb.codec.turn_lists import PayloadForm, TurnItem, TurnList
from perdure.adapters.cxdb.server.answering import Asked
from perdure.adapters.cxdb.server.failures import failure_of
from perdure.adapters.cxdb.server.keys import key_text
from perdure.adapters.cxdb.server.settings import ServerSettings
from perdure.domain.container import Space
from perdure.domain.turn import Context, NewTurn, Turn
from perdure.errors import Invalid
from perdure.ports.turns import TurnStore

_DEPTH_OF_FIRST: Final = 1  # in the store


class ImprovedAnswers:
    """Answers from a store, in one space."""

    extensions = True

    def __init__(self, store: TurnStore, space: Space, settings: ServerSettings) -> None:
        self._store = store
        self._space = space
        self._settings = settings
        self._asked = Asked(store, space, settings)

    async def answer(self, request: Request, *, session_id: int) -> Answer:
        """The answer to a request."""
        timeout_s = self._settings.request_s
        answer: Answer
        match request:
            case Hello():
                answer = HelloAnswer(session_id=session_id)
            case CreateContext(base_turn_id=base) | ForkContext(base_turn_id=base):
                answer = _head(await self._store.create(self._space, base_turn_id=str(base), timeout_s=timeout_s))
            case GetHead(context_id=context_id):
                answer = _head(await self._store.head(self._space, str(context_id), timeout_s=timeout_s))
            case AppendTurn():
                answer = await self._append(request)
            case GetLast() | GetBefore():
                answer = await self._turns(request)
            case GetBlob():
                answer = await self._asked.get_blob(request)
            case AttachFs():
                await self._attach(str(request.turn_id), request.fs_root_hash)
                answer = FsAttached(turn_id=request.turn_id, fs_root_hash=request.fs_root_hash)
            case PutBlob():
                answer = await self._asked.put_blob(request)
        return answer

    def failure(self, exc: Exception, request: Request | None) -> Failure | None:
        """Every failure is told."""
        return failure_of(exc, request)

    async def _append(self, request: AppendTurn) -> TurnAppended:
        if request.encoding != ENCODING_MSGPACK:
            # A store of turns does not keep the number, and a reader would be told another.
            raise Invalid(f"unsupported encoding: {request.encoding}; expected {ENCODING_MSGPACK} (msgpack)")
        payload = await self._asked.content(request)
        turn = NewTurn(
            type_id=request.declared_type_id,
            type_version=request.declared_type_version,
            payload=payload,
            idempotency_key=key_text(request.idempotency_key),
            parent_turn_id=str(request.parent_turn_id) if request.parent_turn_id else None,
        )
        if request.fs_root_hash is not None:
            # Before the turn is there: a turn whose tree is refused would be an error and a turn.
            await self._asked.require_root(request.fs_root_hash)
        timeout_s = self._settings.request_s
        if self._settings.payload_blobs:
            await self._store.put_blob(self._space, payload, timeout_s=timeout_s)
        ref = await self._store.append(
            self._space, str(request.context_id), turn, rebase=request.rebase, timeout_s=timeout_s
        )
        if request.fs_root_hash is not None:
            await self._attach(ref.turn_id, request.fs_root_hash)
        return TurnAppended(
            context_id=int(ref.context_id),
            turn_id=int(ref.turn_id),
            depth=ref.depth - _DEPTH_OF_FIRST,
            content_hash=bytes.fromhex(ref.content_hash),
            replayed=ref.replayed,
        )

    async def _turns(self, request: GetLast | GetBefore) -> TurnList:
        form = PayloadForm.SENT if request.include_payload else PayloadForm.EMPTIED
        context_id, before = str(request.context_id), None
        if isinstance(request, GetBefore):
            before = str(request.before_turn_id)
            if request.context_id == 0:
                # No context has this id: it asks for the turn itself, wherever that is.
                turn = await self._store.get(self._space, before, timeout_s=self._settings.request_s)
                return TurnList(items=(_item(turn, form),), form=form)
        items = await self._asked.last_turns(
            context_id, before=before, limit=request.limit, item=lambda turn: _item(turn, form)
        )
        return TurnList(items=items, form=form)

    async def _attach(self, turn_id: str, root: bytes) -> None:
        await self._store.attach(self._space, turn_id, root.hex(), timeout_s=self._settings.request_s)


def _head(context: Context) -> ContextHead:
    return ContextHead(
        context_id=int(context.context_id),
        head_turn_id=int(context.head_turn_id),
        head_depth=max(0, context.head_depth - _DEPTH_OF_FIRST),
    )


def _item(turn: Turn, form: PayloadForm) -> TurnItem:
    return TurnItem(
        turn_id=int(turn.turn_id),
        parent_turn_id=int(turn.parent_turn_id),
        depth=turn.depth - _DEPTH_OF_FIRST,
        type_id=turn.type_id,
        type_version=turn.type_version,
        encoding=ENCODING_MSGPACK,
        compression=COMPRESSION_NONE,
        uncompressed_len=len(turn.payload),
        content_hash=bytes.fromhex(turn.content_hash),
        payload=turn.payload if form is PayloadForm.SENT else None,
    )
