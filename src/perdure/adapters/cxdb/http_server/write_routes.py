"""Contexts and turns made over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.adapters.cxdb.http_server.answers import (
    CONFLICT,
    CREATED,
    INVALID,
    Answer,
    HttpError,
    HttpRequest,
    json_answer,
)
from perdure.adapters.cxdb.http_server.encoding import encode_payload
from perdure.adapters.cxdb.http_server.registry_state import RegistryState
from perdure.adapters.cxdb.http_server.serving_state import Served, shown_id, wire_depth
from perdure.domain.turn import NO_TURN, TYPE_VERSION_MAX, NewTurn, parse_id
from perdure.errors import Invalid, NotFound


class WriteRoutes:
    """Creating, forking and appending."""

    def __init__(self, served: Served, state: RegistryState) -> None:
        self._served = served
        self._state = state

    async def create(self, request: HttpRequest) -> Answer:
        """Make a context, at a turn if the body names one."""
        body = _object(request.body) if request.body else {}
        return await self._make(request, _id(body, "base_turn_id") or NO_TURN)

    async def fork(self, request: HttpRequest) -> Answer:
        """Make a context at a turn."""
        base = _id(_object(request.body), "base_turn_id")
        if base is None:
            raise HttpError(INVALID, "base_turn_id is missing; expected the id of a turn")
        return await self._make(request, base)

    async def append(self, request: HttpRequest) -> Answer:
        """Append a turn: its data as MessagePack, with tags where the registry says which."""
        context_id = self._served.path_id(request.parts[2], what="a context's id")
        as_number = self._served.ids_as_numbers(request)
        deadline = self._served.deadline()
        body = _object(request.body)
        type_id, type_version = _type(body)
        parent = _id(body, "parent_turn_id")
        data = body["data"] if "data" in body else body.get("payload", msgspec.UNSET)
        if data is msgspec.UNSET:
            raise HttpError(INVALID, "data is missing; expected the turn as JSON, under data or payload")
        version = await self._state.find(type_id, type_version, deadline)
        registry = await self._state.current(deadline)
        turn = NewTurn(
            type_id=type_id,
            type_version=type_version,
            payload=encode_payload(data, version, registry=registry),
            idempotency_key=None if self._served.is_strict else _key(body),
            parent_turn_id=None if parent in (None, NO_TURN) else parent,
        )
        try:
            ref = await self._served.store.append(
                self._served.space, context_id, turn, rebase=True, timeout_s=deadline.left_s
            )
        except NotFound as exc:
            if exc.detail.get("resource") != "turn":
                raise
            message = "parent turn" if self._served.is_strict else f"{exc.message}; the parent must be a turn"
            raise HttpError(CONFLICT, message) from exc
        shown: dict[str, object] = {
            "context_id": shown_id(ref.context_id, as_number=as_number),
            "turn_id": shown_id(ref.turn_id, as_number=as_number),
            "depth": wire_depth(ref.depth),
            "content_hash": ref.content_hash,
        }
        if not self._served.is_strict:
            shown["replayed"] = ref.replayed
        return json_answer(shown, status=CREATED)

    async def _make(self, request: HttpRequest, base: str) -> Answer:
        as_number = self._served.ids_as_numbers(request)
        deadline = self._served.deadline()
        try:
            context = await self._served.store.create(self._served.space, base_turn_id=base, timeout_s=deadline.left_s)
        except NotFound as exc:
            message = "base turn" if self._served.is_strict else f"{exc.message}; the base must be a turn"
            raise HttpError(CONFLICT, message) from exc
        shown = {
            "context_id": shown_id(context.context_id, as_number=as_number),
            "head_turn_id": shown_id(context.head_turn_id, as_number=as_number),
            "head_depth": wire_depth(context.head_depth),
        }
        return json_answer(shown, status=CREATED)


def _object(body: bytes) -> Mapping[str, object]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise HttpError(INVALID, "the body is not JSON; expected an object") from exc
    if not isinstance(decoded, dict):
        raise HttpError(INVALID, "the body is no JSON object")
    return decoded


def _id(body: Mapping[str, object], name: str) -> str | None:
    """An id in text or as a number; None where there is none."""
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    try:
        return str(parse_id(value, what="a turn's id"))
    except Invalid as exc:
        raise HttpError(INVALID, f"{name}: {exc.message}") from exc


def _type(body: Mapping[str, object]) -> tuple[str, int]:
    type_id, version = body.get("type_id"), body.get("type_version")
    if not isinstance(type_id, str) or not type_id:
        raise HttpError(INVALID, "type_id is missing; expected text")
    if isinstance(version, str) and version.isascii() and version.isdigit() and len(version) <= len(str(2**32)):
        version = int(version)
    if not isinstance(version, int) or isinstance(version, bool) or not 0 <= version <= TYPE_VERSION_MAX:
        raise HttpError(INVALID, f"type_version is missing or no number; expected 0 to {TYPE_VERSION_MAX}")
    return type_id, version


def _key(body: Mapping[str, object]) -> str | None:
    key = body.get("idempotency_key")
    if key is None or key == "":
        return None
    if not isinstance(key, str):
        raise HttpError(INVALID, "idempotency_key is no text; leave it out for a turn that has none")
    return key
