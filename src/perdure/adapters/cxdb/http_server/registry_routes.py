"""Registry over HTTP: bundles in and out, and what they say about a type."""

from __future__ import annotations

from perdure.adapters.cxdb.http_server.answers import (
    CONFLICT,
    CREATED,
    INVALID,
    NO_CONTENT,
    NOT_FOUND,
    NOT_MODIFIED,
    Answer,
    HttpError,
    HttpRequest,
    json_answer,
)
from perdure.adapters.cxdb.http_server.descriptors import describe, describe_renderer, parse_bundle
from perdure.adapters.cxdb.http_server.registry_state import RegistryState
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.domain.turn import TYPE_VERSION_MAX, content_hash
from perdure.errors import Conflict


class RegistryRoutes:
    """What is under ``/v1/registry``."""

    def __init__(self, served: Served, state: RegistryState) -> None:
        self._served = served
        self._state = state

    async def put_bundle(self, request: HttpRequest) -> Answer:
        """Keep a bundle: checked as a whole first, then kept, so that a refused one leaves no trace."""
        bundle = parse_bundle(request.body)
        if bundle.bundle_id != request.parts[-1] and not self._served.is_strict:
            raise HttpError(
                INVALID, "the bundle_id of the body is another one than that of the address; send one bundle to its own"
            )
        try:
            is_new = await self._state.publish(request.body, bundle, self._served.deadline())
        except Conflict as exc:
            raise HttpError(INVALID if self._served.is_strict else CONFLICT, exc.message) from exc
        return json_answer({"bundle_id": bundle.bundle_id}, status=CREATED) if is_new else Answer(status=NO_CONTENT)

    async def get_bundle(self, request: HttpRequest) -> Answer:
        """The bytes of a bundle, with their hash as its tag."""
        raw = await self._state.raw(request.parts[-1], self._served.deadline())
        if raw is None:
            raise HttpError(NOT_FOUND, "bundle" if self._served.is_strict else "resource not found: bundle")
        tag = f'"{content_hash(raw)}"'
        headers = ((b"etag", tag.encode()),)
        if self._has(request.headers.get("if-none-match"), tag):
            return Answer(status=NOT_MODIFIED, headers=headers)
        return Answer(body=raw, headers=((b"content-type", b"application/json"), *headers))

    async def get_version(self, request: HttpRequest) -> Answer:
        """One version of a type."""
        type_id, version_text = request.parts[-3], request.parts[-1]
        is_number = version_text.isascii() and version_text.isdigit() and len(version_text) <= len(str(2**32))
        if not is_number or int(version_text) > TYPE_VERSION_MAX:
            raise HttpError(INVALID, f"a type's version is 0 to {TYPE_VERSION_MAX}, in digits")
        version = await self._state.find(type_id, int(version_text), self._served.deadline())
        if version is None:
            raise HttpError(NOT_FOUND, "type version" if self._served.is_strict else "resource not found: type version")
        return json_answer(describe(version))

    async def get_renderers(self, request: HttpRequest) -> Answer:
        """The renderer of each type's highest version, where it has one."""
        del request
        registry = await self._state.refreshed(self._served.deadline())
        found = {
            type_id: describe_renderer(version.renderer)
            for type_id in registry.types
            if (version := registry.find_latest(type_id)) is not None and version.renderer is not None
        }
        return json_answer({"renderers": found})

    def _has(self, header: str | None, tag: str) -> bool:
        if header is None:
            return False
        if self._served.is_strict:
            return header == tag
        return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(","))
