"""A page of turns over HTTP: as bytes, as their types describe them, or both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.adapters.cxdb.codec.requests import COMPRESSION_NONE, ENCODING_MSGPACK
from perdure.adapters.cxdb.http_server.answers import (
    INVALID,
    NO_DESCRIPTOR,
    NOT_FOUND,
    Answer,
    HttpError,
    HttpRequest,
    error_body,
    json_answer,
)
from perdure.adapters.cxdb.http_server.projection import Rendering, project, render_bytes
from perdure.adapters.cxdb.http_server.registry import Registry
from perdure.adapters.cxdb.http_server.registry_state import RegistryState
from perdure.adapters.cxdb.http_server.serving_state import Deadline, Served, shown_id, wire_depth
from perdure.adapters.cxdb.server.numbered import DeclaredTurn
from perdure.domain.turn import NO_TURN, TURNS_PAGE_MAX, TYPE_VERSION_MAX, Turn, parse_id
from perdure.errors import Invalid, LimitExceeded, NotFound

_TURNS_DEFAULT: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """The parameters of a page."""

    before: str | None
    limit: int
    view: str
    hint: str
    explicit: tuple[str, int] | None
    rendering: Rendering
    as_number: bool

    @property
    def is_typed(self) -> bool:
        return self.view in ("typed", "both")

    @property
    def is_raw(self) -> bool:
        return self.view in ("raw", "both")

    def types(self, turns: Sequence[Turn]) -> set[tuple[str, int | None]]:
        """What must be known to show these turns."""
        if not self.is_typed:
            return set()
        if self.explicit is not None:
            return {self.explicit}
        latest = self.hint == "latest"
        return {(turn.type_id, None if latest else turn.type_version) for turn in turns}


class TurnRoutes:
    """What is under ``/v1/contexts/{id}/turns``, for reading."""

    def __init__(self, served: Served, state: RegistryState) -> None:
        self._served = served
        self._state = state

    async def list(self, request: HttpRequest) -> Answer:
        """The newest turns before a cursor, oldest first."""
        context_id = self._served.path_id(request.parts[2], what="a context's id")
        asked = self._asked(request)
        deadline = self._served.deadline()
        store, space = self._served.store, self._served.space
        try:
            turns = await store.list(
                space, context_id, before_turn_id=asked.before, limit=asked.limit, timeout_s=deadline.left_s
            )
        except Invalid as exc:
            if not self._served.is_strict or asked.before is None:
                raise HttpError(NOT_FOUND, f"{exc.message} (before_turn_id)") from exc
            turns = await self._elsewhere(asked.before, asked.limit, deadline)
        if asked.before is None and turns:
            head_turn_id, head_depth = turns[-1].turn_id, turns[-1].depth
        else:
            head = await store.head(space, context_id, timeout_s=deadline.left_s)
            head_turn_id, head_depth = head.head_turn_id, head.head_depth
        registry = await self._state.knowing(asked.types(turns), deadline)
        shown: list[Mapping[str, object]] = []
        for turn in turns:
            shown.append(self._shown(turn, asked, registry))
            await asyncio.sleep(0)  # a large payload takes a while; others have their turn between two
        meta = {
            "context_id": shown_id(context_id, as_number=asked.as_number),
            "head_turn_id": shown_id(head_turn_id, as_number=asked.as_number),
            "head_depth": wire_depth(head_depth),
            "registry_bundle_id": registry.last_bundle_id,
        }
        following = shown_id(turns[0].turn_id, as_number=asked.as_number) if turns else None
        return json_answer({"meta": meta, "turns": shown, "next_before_turn_id": following})

    async def _elsewhere(self, before: str, limit: int, deadline: Deadline) -> Sequence[Turn]:
        """What comes before a turn of another context: strict servers ask no one whose turn it is."""
        store, space = self._served.store, self._served.space
        try:
            turn = await store.get(space, before, timeout_s=deadline.left_s)
            return await store.list(
                space, turn.context_id, before_turn_id=before, limit=limit, timeout_s=deadline.left_s
            )
        except (NotFound, Invalid) as exc:
            raise HttpError(NOT_FOUND, "before turn") from exc

    def _asked(self, request: HttpRequest) -> _Asked:
        choice, flag = self._served.choice, self._served.flag
        hint = choice(request, "type_hint_mode", ("inherit", "latest", "explicit"))
        as_number = self._served.ids_as_numbers(request)
        view: str = request.query.get("view", "typed")
        if not self._served.is_strict:  # strict servers answer neither for what they do not know
            view = choice(request, "view", ("typed", "raw", "both"))
        return _Asked(
            before=self._before(request.query.get("before_turn_id", NO_TURN)),
            limit=self._served.page_size(request, default=_TURNS_DEFAULT, most=TURNS_PAGE_MAX),
            view=view,
            hint=hint,
            explicit=_explicit(request) if hint == "explicit" else None,
            rendering=Rendering(
                u64_format="number" if as_number else "string",
                bytes_render=choice(request, "bytes_render", ("base64", "hex", "len_only")),
                enum_render=choice(request, "enum_render", ("label", "number", "both")),
                time_render=choice(request, "time_render", ("iso", "unix_ms")),
                include_unknown=flag(request, "include_unknown"),
            ),
            as_number=as_number,
        )

    def _before(self, text: str) -> str | None:
        try:
            number = parse_id(text, what="a turn's id")
        except Invalid as exc:
            if self._served.is_strict:
                return None
            raise HttpError(INVALID, f"before_turn_id: {exc.message}") from exc
        return str(number) if number else None

    def _shown(self, turn: Turn, asked: _Asked, registry: Registry) -> Mapping[str, object]:
        shown: dict[str, object] = {
            "turn_id": shown_id(turn.turn_id, as_number=asked.as_number),
            "parent_turn_id": shown_id(turn.parent_turn_id, as_number=asked.as_number),
            "depth": wire_depth(turn.depth),
            "declared_type": {"type_id": turn.type_id, "type_version": turn.type_version},
        }
        if asked.is_raw:
            shown |= _raw(turn, asked.rendering)
        if asked.is_typed:
            try:
                shown |= _typed(turn, asked, registry)
            except HttpError as exc:
                if self._served.is_strict:
                    raise
                shown |= error_body(exc)
        return shown


def _explicit(request: HttpRequest) -> tuple[str, int]:
    type_id, version = request.query.get("as_type_id"), request.query.get("as_type_version", "")
    is_number = version.isascii() and version.isdigit() and len(version) <= len(str(TYPE_VERSION_MAX))
    if not type_id or not is_number or int(version) > TYPE_VERSION_MAX:
        raise HttpError(INVALID, "type_hint_mode=explicit needs as_type_id, and as_type_version in digits")
    return type_id, int(version)


def _raw(turn: Turn, rendering: Rendering) -> dict[str, object]:
    name = {"base64": "bytes_b64", "hex": "bytes_hex", "len_only": "bytes_len"}[rendering.bytes_render]
    return {
        "content_hash_b3": turn.content_hash,
        # What else it might be in, the improved profile refuses.
        "encoding": turn.encoding if isinstance(turn, DeclaredTurn) else ENCODING_MSGPACK,
        "compression": COMPRESSION_NONE,  # of what is shown, whatever was declared of what was sent
        "uncompressed_len": len(turn.payload),
        name: render_bytes(turn.payload, rendering.bytes_render),
    }


def _typed(turn: Turn, asked: _Asked, registry: Registry) -> dict[str, object]:
    type_id, number = asked.explicit or (turn.type_id, turn.type_version)
    if asked.hint == "latest":
        latest = registry.latest(type_id)
        number = number if latest is None else latest
    version = registry.find(type_id, number)
    if version is None:
        raise HttpError(
            NO_DESCRIPTOR,
            f"type descriptor not found: {type_id!a} version {number}; publish a bundle that has it, or ask for "
            "view=raw",
        )
    try:
        projected = project(turn.payload, version, registry=registry, rendering=asked.rendering)
    except (Invalid, LimitExceeded) as exc:
        raise HttpError(INVALID, exc.message) from exc
    shown: dict[str, object] = {"decoded_as": {"type_id": type_id, "type_version": number}, "data": projected.data}
    if asked.rendering.include_unknown:
        shown["unknown"] = projected.unknown
    return shown
