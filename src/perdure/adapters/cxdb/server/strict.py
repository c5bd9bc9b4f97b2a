"""The strict profile: what the protocol's own servers answer, where they do not, and what they make of keys: nothing.

Turns and contexts have numbers from 1. Changes are made one at a time, as there.
"""

from __future__ import annotations

from perdure.adapters.cxdb.codec.requests import (
    COMPRESSION_NONE,
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
    UnknownMessage,
)
from perdure.adapters.cxdb.codec.responses import (
    Answer,
    ContextHead,
    ErrorCode,
    Failure,
    FsAttached,
    HelloAnswer,
    TurnAppended,
)
from perdure.adapters.cxdb.codec.turn_lists import PayloadForm, TurnItem, TurnList
from perdure.adapters.cxdb.server.answering import Asked
from perdure.adapters.cxdb.server.numbering import declared_of
from perdure.adapters.cxdb.server.payloads import BlobHashMismatch
from perdure.adapters.cxdb.server.settings import ServerSettings
from perdure.adapters.cxdb.server.writer import NumberedHead, NumberedTurn, NumberedWriter
from perdure.domain.container import Space
from perdure.domain.turn import Turn
from perdure.errors import NotFound
from perdure.ports.turns import TurnStore


class StrictAnswers:
    """Answers from a store of which this is the only writer. ``open`` the writer before anything is asked."""

    extensions = False

    def __init__(self, store: TurnStore, space: Space, settings: ServerSettings, *, writer: NumberedWriter) -> None:
        self._timeout_s = settings.request_s
        self._asked = Asked(store, space, settings)
        self._writer = writer
        self._numbering = writer.numbering

    async def answer(self, request: Request, *, session_id: int) -> Answer:
        """The answer to a request."""
        answer: Answer
        match request:
            case Hello():
                answer = HelloAnswer(session_id=session_id)
            case CreateContext(base_turn_id=base) | ForkContext(base_turn_id=base):
                answer = await self._create(base)
            case GetHead(context_id=context_id):
                head = await self._head(context_id)
                answer = ContextHead(context_id=context_id, head_turn_id=head.number, head_depth=head.depth)
            case AppendTurn():
                answer = await self._append(request)
            case GetLast():
                answer = await self._last(request)
            case GetBlob():
                answer = await self._asked.get_blob(request)
            case AttachFs():
                await self._writer.attach(request.turn_id, request.fs_root_hash.hex(), timeout_s=self._timeout_s)
                answer = FsAttached(turn_id=request.turn_id, fs_root_hash=request.fs_root_hash)
            case PutBlob():
                async with self._writer.alone():
                    answer = await self._asked.put_blob(request)
            case GetBefore():
                raise UnknownMessage("unknown msg_type", msg_type=int(request.message_type))
        return answer

    def failure(self, exc: Exception, request: Request | None) -> Failure | None:
        """Four failures are told; all others close the connection."""
        match request, exc:
            case _, UnknownMessage():
                return Failure(code=ErrorCode.INVALID, detail=exc.message)
            case GetHead(), NotFound():
                return Failure(code=ErrorCode.NOT_FOUND, detail="context")
            case GetBlob(), NotFound():
                return Failure(code=ErrorCode.NOT_FOUND, detail="blob")
            case PutBlob(), BlobHashMismatch():
                return Failure(code=ErrorCode.INVALID, detail=exc.message)
            case _:
                return None

    async def _head(self, number: int) -> NumberedHead:
        return await self._writer.head(await self._numbering.context_id(number), timeout_s=self._timeout_s)

    async def _create(self, base: int) -> ContextHead:
        created = await self._writer.create(base, timeout_s=self._timeout_s)
        return ContextHead(context_id=created.number, head_turn_id=created.head.number, head_depth=created.head.depth)

    async def _append(self, request: AppendTurn) -> TurnAppended:
        turn = NumberedTurn(
            context=request.context_id,
            type_id=request.declared_type_id,
            type_version=request.declared_type_version,
            payload=await self._asked.content(request),
            parent=request.parent_turn_id,
            encoding=request.encoding,
            compression=request.compression,
        )
        # With a tree that is refused, the turn is there all the same, and the client sees a closed connection.
        head, _ = await self._writer.append(turn, root=request.fs_root_hash, timeout_s=self._timeout_s)
        return TurnAppended(
            context_id=request.context_id, turn_id=head.number, depth=head.depth, content_hash=request.content_hash
        )

    async def _last(self, request: GetLast) -> TurnList:
        context_id = await self._numbering.context_id(request.context_id)
        form = PayloadForm.SENT if request.include_payload else PayloadForm.OMITTED
        items = await self._asked.last_turns(context_id, limit=request.limit, item=lambda turn: _item(turn, form))
        return TurnList(items=items, form=form)


def _item(turn: Turn, form: PayloadForm) -> TurnItem:
    declared = declared_of(turn)
    sent = form is PayloadForm.SENT
    return TurnItem(
        turn_id=declared.number,
        parent_turn_id=declared.parent,
        depth=turn.depth - 1,
        type_id=declared.type_id,
        type_version=turn.type_version,
        encoding=declared.encoding,
        # A payload is sent as it was before it was compressed; without it the answer says what was declared.
        compression=COMPRESSION_NONE if sent else declared.compression,
        uncompressed_len=len(turn.payload),
        content_hash=bytes.fromhex(turn.content_hash),
        payload=turn.payload if sent else None,
    )
