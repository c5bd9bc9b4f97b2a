"""Contexts over HTTP: the list, one of them, and the search."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from perdure.adapters.cxdb.http_server.answers import BAD_REQUEST, Answer, HttpRequest, json_answer
from perdure.adapters.cxdb.http_server.cql import QueryError, parse_query
from perdure.adapters.cxdb.http_server.cql_matching import Matching
from perdure.adapters.cxdb.http_server.directory import ContextDirectory, Described, Scan
from perdure.adapters.cxdb.http_server.family import Family
from perdure.adapters.cxdb.http_server.limits import SCAN_CONTEXTS_MAX, SCAN_WHOLE_CONTEXTS_MAX
from perdure.adapters.cxdb.http_server.serving_state import Deadline, Served, shown_id, wire_depth
from perdure.domain.turn import NO_TURN, Turn, split_turn_id

_CONTEXTS_DEFAULT: Final = 20
_CHILDREN_DEFAULT: Final = 256
_PROVENANCE_IDS: Final = ("parent_context_id", "root_context_id")
_YIELD_EVERY: Final = 50  # contexts that are compared before others have their turn


class ContextRoutes:
    """What is under ``/v1/contexts`` and is about contexts."""

    def __init__(self, served: Served, directory: ContextDirectory) -> None:
        self._served = served
        self._directory = directory
        # Where an answer has no place for a cursor, it is about all of them.
        self._most = SCAN_WHOLE_CONTEXTS_MAX if served.is_strict else SCAN_CONTEXTS_MAX

    async def list(self, request: HttpRequest) -> Answer:
        """Contexts, the last made first; in the strict profile the last active first."""
        limit = self._served.page_size(request, default=_CONTEXTS_DEFAULT, most=self._most)
        as_number = self._served.ids_as_numbers(request)
        with_provenance = self._served.flag(request, "include_provenance")
        tag = request.query.get("tag")
        deadline = self._served.deadline()
        label = None if self._served.is_strict else request.query.get("label")
        scan = await self._scan(request, deadline, label=label)
        if self._served.is_strict:
            scan = await self._by_activity(scan, deadline)
        chosen = scan.contexts if tag is not None and not self._served.is_strict else scan.contexts[:limit]
        described = await self._directory.describe(chosen, deadline)
        if tag is not None:
            described = [one for one in described if one.metadata.client_tag == tag]
        described = described[:limit]
        heads = await self._directory.last_turns([one.context for one in described], deadline)
        shown = [
            self._shown(one, heads.get(one.context.context_id), as_number=as_number, with_provenance=with_provenance)
            for one in described
        ]
        if self._served.flag(request, "include_lineage"):
            family = await self._family(deadline)
            for context, one in zip(shown, described, strict=True):
                context["lineage"] = self._lineage(one, family, as_number=as_number)
        body: dict[str, object] = {"contexts": shown, "count": len(shown), "active_sessions": [], "active_tags": []}
        if not self._served.is_strict:
            body |= scan.told()
        return json_answer(body)

    async def get(self, request: HttpRequest) -> Answer:
        """One context, with its provenance and where it comes from."""
        context_id = self._served.path_id(request.parts[2], what="a context's id")
        deadline = self._served.deadline()
        context = await self._served.store.head(self._served.space, context_id, timeout_s=deadline.left_s)
        described = await self._directory.describe([context], deadline)
        family = await self._family(deadline) if self._with_lineage(request) else None
        (shown,) = await self._in_full(request, described, family, deadline)
        return json_answer(shown)

    async def children(self, request: HttpRequest) -> Answer:
        """The contexts that come from one, oldest first; with ``recursive`` theirs too, the nearest first."""
        context_id = self._served.path_id(request.parts[2], what="a context's id")
        limit = self._served.page_size(request, default=_CHILDREN_DEFAULT, most=self._most)
        recursive = request.query.get("recursive", "0").lower() in ("1", "true")
        deadline = self._served.deadline()
        await self._served.store.head(self._served.space, context_id, timeout_s=deadline.left_s)
        family = await self._family(deadline, whole=True)
        found = family.descendants(context_id) if recursive else family.children(context_id)
        chosen = [family.members[child] for child in found[:limit]]
        shown = await self._in_full(request, chosen, family if self._with_lineage(request) else None, deadline)
        body: dict[str, object] = {
            "context_id": shown_id(context_id, as_number=self._served.ids_as_numbers(request)),
            "recursive": recursive,
            "count": len(shown),
            "children": shown,
        }
        if not self._served.is_strict:
            body["truncated"] = len(found) > limit
        return json_answer(body)

    async def provenance(self, request: HttpRequest) -> Answer:
        """Where a context says it comes from; null if it says nothing."""
        context_id = self._served.path_id(request.parts[2], what="a context's id")
        deadline = self._served.deadline()
        context = await self._served.store.head(self._served.space, context_id, timeout_s=deadline.left_s)
        (described,) = await self._directory.describe([context], deadline)
        as_number = self._served.ids_as_numbers(request)
        return json_answer(
            {
                "context_id": shown_id(context_id, as_number=as_number),
                "provenance": _shown_provenance(described, as_number=as_number),
            }
        )

    async def search(self, request: HttpRequest) -> Answer:
        """Contexts that a query is true of, ids descending."""
        started = self._served.clock.monotonic()
        text = request.query.get("q")
        if text is None:
            return json_answer({"error": "Missing required 'q' parameter"}, status=BAD_REQUEST)
        try:
            query = parse_query(text)
        except QueryError as exc:
            return _query_error(exc, text)
        limit = self._served.page_size(request, default=self._most, most=self._most)
        as_number = self._served.ids_as_numbers(request)
        deadline = self._served.deadline()
        scan = await self._scan(request, deadline)
        matching = Matching(now=self._served.clock.now(), host_has_case=self._served.is_strict)
        found: list[Described] = []
        for number, one in enumerate(await self._directory.describe(scan.contexts, deadline), start=1):
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if matching.is_true(query, one):
                found.append(one)
        body: dict[str, object] = {
            "contexts": [self._found(one, as_number=as_number) for one in found[:limit]],
            "total_count": len(found),
            "elapsed_ms": round((self._served.clock.monotonic() - started) * 1_000),
            "query": text,
        }
        if not self._served.is_strict:
            body |= scan.told()
        return json_answer(body)

    async def _by_activity(self, scan: Scan, deadline: Deadline) -> Scan:
        heads = await self._directory.last_turns(scan.contexts, deadline)
        active = {one.context_id: _active_ms(one.created_at, heads.get(one.context_id)) or 0 for one in scan.contexts}
        newest_first = sorted(scan.contexts, key=lambda one: active[one.context_id], reverse=True)
        return Scan(contexts=tuple(newest_first))

    def _found(self, one: Described, *, as_number: bool) -> dict[str, object]:
        shown: dict[str, object] = {
            "context_id": shown_id(one.context.context_id, as_number=as_number),
            "head_turn_id": shown_id(one.context.head_turn_id, as_number=as_number),
            "head_depth": wire_depth(one.context.head_depth),
            "created_at_unix_ms": _unix_ms(one.context.created_at),
            "is_live": False,
        }
        if one.metadata.client_tag is not None:
            shown["client_tag"] = one.metadata.client_tag
        if one.metadata.title is not None:
            shown["title"] = one.metadata.title
        return shown

    def _shown(self, one: Described, head: Turn | None, *, as_number: bool, with_provenance: bool) -> dict[str, object]:
        shown = self._found(one, as_number=as_number)
        active_ms = _active_ms(one.context.created_at, head)
        if self._served.is_strict:
            # The time of the last append is what this name means there.
            shown["created_at_unix_ms"] = active_ms
        elif active_ms is not None:
            shown["last_activity_at"] = active_ms
        if one.labels:
            shown["labels"] = one.labels
        if with_provenance:
            shown["provenance"] = _shown_provenance(one, as_number=as_number)
        return shown

    async def _scan(self, request: HttpRequest, deadline: Deadline, *, label: str | None = None) -> Scan:
        """All contexts; in the improved profile a page of them, which says where the next one begins."""
        if self._served.is_strict:
            return await self._directory.scan(deadline, whole=True)
        return await self._directory.scan(deadline, label=label, cursor=request.query.get("cursor"))

    async def _family(self, deadline: Deadline, *, whole: bool = False) -> Family:
        """The contexts that say of each other one that it is their parent, oldest first."""
        scan = await self._directory.scan(deadline, whole=whole or self._served.is_strict)
        described = await self._directory.describe(scan.contexts, deadline)
        return Family(described[::-1], parent_of=self._parent, truncated=scan.next_cursor is not None)

    async def _in_full(
        self, request: HttpRequest, described: Sequence[Described], family: Family | None, deadline: Deadline
    ) -> Sequence[dict[str, object]]:
        as_number = self._served.ids_as_numbers(request)
        with_provenance = self._served.flag(request, "include_provenance", default=True)
        heads = await self._directory.last_turns([one.context for one in described], deadline)
        found: list[dict[str, object]] = []
        for one in described:
            head = heads.get(one.context.context_id)
            shown = self._shown(one, head, as_number=as_number, with_provenance=with_provenance)
            if family is not None:
                shown["lineage"] = self._lineage(one, family, as_number=as_number)
            found.append(shown)
        return found

    def _with_lineage(self, request: HttpRequest) -> bool:
        return self._served.flag(request, "include_lineage", default=True)

    def _lineage(self, one: Described, family: Family, *, as_number: bool) -> dict[str, object]:
        children = family.children(one.context.context_id)
        parent, root = self._parent(one), one.metadata.origin("root_context_id")
        shown: dict[str, object] = {
            "parent_context_id": None if parent is None else shown_id(parent, as_number=as_number),
            "root_context_id": None if root is None else shown_id(str(root), as_number=as_number),
            "spawn_reason": one.metadata.origin("spawn_reason"),
            "child_context_count": len(children),
            "child_context_ids": [shown_id(child, as_number=as_number) for child in children],
        }
        if family.truncated:
            shown["truncated"] = True
        return shown

    def _parent(self, one: Described) -> str | None:
        """What a context says, and in the improved profile else what it was forked from."""
        said = one.metadata.origin("parent_context_id")
        if said is not None and one.is_own:
            return str(said)
        if self._served.is_strict or one.context.base_turn_id == NO_TURN:
            return None
        number, _ = split_turn_id(int(one.context.base_turn_id))
        return str(number)


def _query_error(error: QueryError, text: str) -> Answer:
    position: dict[str, object] | None = None
    if error.offset is not None:
        before = text[: error.offset]
        line_start = before.rfind("\n") + 1
        position = {"line": before.count("\n") + 1, "column": error.offset - line_start + 1, "offset": error.offset}
    body = {"error": error.message, "error_type": error.error_type, "field": error.field, "position": position}
    return json_answer(body, status=BAD_REQUEST)


def _shown_provenance(one: Described, *, as_number: bool) -> dict[str, object] | None:
    if one.metadata.provenance is None:
        return None
    shown = dict(one.metadata.provenance)
    for name in _PROVENANCE_IDS:
        if shown[name] is not None and not as_number:
            shown[name] = str(shown[name])
    return shown


def _active_ms(created_at: datetime | None, head: Turn | None) -> int | None:
    times = [at for at in (created_at, None if head is None else head.recorded_at) if at is not None]
    return _unix_ms(max(times, default=None))


def _unix_ms(when: datetime | None) -> int | None:
    return None if when is None else int(when.timestamp() * 1_000)
