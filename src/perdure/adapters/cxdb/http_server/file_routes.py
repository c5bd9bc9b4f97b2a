"""The tree of files at a turn: directories as lists, files as they are."""

from __future__ import annotations

import base64
import mimetypes
from dataclasses import dataclass
from typing import Final

from perdure.adapters.cxdb.http_server.answers import INVALID, NOT_FOUND, Answer, HttpError, HttpRequest, json_answer
from perdure.adapters.cxdb.http_server.limits import FS_PARTS_MAX
from perdure.adapters.cxdb.http_server.serving_state import Deadline, Served, shown_id
from perdure.domain.tree import TREE_HASH_BYTES, EntryKind, TreeEntry, decode_tree
from perdure.errors import Corrupt

_TYPES: Final = mimetypes.MimeTypes(filenames=())  # not those of this machine: they differ, and so would answers
_KINDS: Final = {EntryKind.FILE: "file", EntryKind.DIRECTORY: "dir", EntryKind.SYMLINK: "symlink"}
# A page that an agent wrote is shown, and neither runs here nor reads anything else of this server.
_HARMLESS: Final = ((b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What a path leads to; no entry means the root."""

    root: str
    path: str
    entry: TreeEntry | None

    @property
    def digest(self) -> str:
        """The address of its content."""
        if self.entry is None:
            return self.root
        if len(self.entry.hash) != TREE_HASH_BYTES:
            raise Corrupt("an entry of a directory has no address; it was not written as a tree")
        return self.entry.hash.hex()


class FileRoutes:
    """What is under ``/v1/turns/{id}/fs``."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def list(self, request: HttpRequest) -> Answer:
        """A directory: the root, or that of the parameter ``path``."""
        path = request.query.get("path", "").strip("/")
        turn_id, place, deadline = await self._find(request, tuple(path.split("/")) if path else ())
        if place.entry is not None and place.entry.kind is not EntryKind.DIRECTORY:
            raise HttpError(INVALID, "the path is no directory")
        return await self._listing(request, turn_id, place, deadline)

    async def read(self, request: HttpRequest) -> Answer:
        """A file as it is, a link's target as text, a directory as a list."""
        turn_id, place, deadline = await self._find(request, request.parts[4:])
        entry = place.entry
        if entry is None or entry.kind is EntryKind.DIRECTORY:
            return await self._listing(request, turn_id, place, deadline)
        content = await self._blob(place.digest, deadline, missing="blob")
        guessed, encoded = _TYPES.guess_type(entry.name)
        kind = "application/octet-stream" if guessed is None or encoded is not None else guessed
        if entry.kind is EntryKind.SYMLINK:
            kind = "text/plain"
        if request.query.get("format") == "json":
            shown = {
                "turn_id": shown_id(turn_id, as_number=self._served.ids_as_numbers(request)),
                "path": place.path,
                "fs_root_hash": place.root,
                **_shown(entry),
                "content_type": kind,
                "content_base64": base64.b64encode(content).decode(),
            }
            return json_answer(shown)
        headers = (
            (b"content-type", kind.encode()),
            (b"x-fs-hash", place.digest.encode()),
            (b"x-fs-mode", f"{entry.mode:o}".encode()),
        )
        return Answer(body=content, headers=(*headers, *_HARMLESS))

    async def _find(self, request: HttpRequest, parts: tuple[str, ...]) -> tuple[str, _Place, Deadline]:
        turn_id = self._served.path_id(request.parts[2], what="a turn's id")
        if len(parts) > FS_PARTS_MAX:
            raise HttpError(INVALID, f"the path has {len(parts)} parts, at most {FS_PARTS_MAX} (fs_parts_max)")
        for part in parts:
            # No tree has such a name. To look for it would be harmless, to make a path of it would not.
            if part in ("", ".", "..") or "/" in part or "\0" in part:
                raise HttpError(INVALID, "a part of the path is empty, '.', '..' or holds '/' or NUL")
        deadline = self._served.deadline()
        root = await self._served.store.snapshot(self._served.space, turn_id, timeout_s=deadline.left_s)
        if root is None:
            raise HttpError(NOT_FOUND, "no fs snapshot for turn")
        place = _Place(root=root, path="", entry=None)
        for part in parts:
            if place.entry is not None and place.entry.kind is not EntryKind.DIRECTORY:
                raise HttpError(INVALID, "a part of the path is no directory")
            entries = await self._entries(place, deadline)
            entry = next((each for each in entries if each.name == part), None)
            if entry is None:
                raise HttpError(NOT_FOUND, "path not found in the snapshot of the turn")
            place = _Place(root=root, path=f"{place.path}/{part}".lstrip("/"), entry=entry)
        return turn_id, place, deadline

    async def _listing(self, request: HttpRequest, turn_id: str, place: _Place, deadline: Deadline) -> Answer:
        entries = await self._entries(place, deadline)
        shown = {
            "turn_id": shown_id(turn_id, as_number=self._served.ids_as_numbers(request)),
            "path": place.path,
            "fs_root_hash": place.root,
            "entries": [_shown(entry) for entry in entries],
        }
        return json_answer(shown)

    async def _entries(self, place: _Place, deadline: Deadline) -> tuple[TreeEntry, ...]:
        return decode_tree(await self._blob(place.digest, deadline, missing="fs root tree blob"))

    async def _blob(self, digest: str, deadline: Deadline, *, missing: str) -> bytes:
        content = await self._served.store.find_blob(self._served.space, digest, timeout_s=deadline.left_s)
        if content is None:
            raise HttpError(NOT_FOUND, missing if self._served.is_strict else f"resource not found: object ({digest})")
        return content


def _shown(entry: TreeEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "kind": _KINDS[entry.kind],
        "mode": f"{entry.mode:o}",
        "size": entry.size,
        "hash": entry.hash.hex(),
    }
