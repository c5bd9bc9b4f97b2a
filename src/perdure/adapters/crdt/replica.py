"""Facts in a pycrdt document: one flat map, each fact a key of its own, so that no write ever meets another.

Three things about the library decide how it is used (all measured with 0.14). Its format has no checksum and takes
damaged bytes for others, so that what comes from a disk or a network is verified before it gets here. Some of its
errors are no ``Exception``. And a document that is restored under the id that wrote it, and writes again, gives out
numbers which peers have seen: they never converge, and say nothing. So an id is made anew at every start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pycrdt

from perdure.adapters.crdt.vectors import read_vector
from perdure.domain.tasklists.tasks import FactChange
from perdure.errors import Corrupt, Invalid, LimitExceeded
from perdure.ports.environment import Environment
from perdure.ports.replicas import UPDATE_BYTES_MAX, FactWatcher

WRITER_BITS: Final = 53  # what the format carries, and what a float of a peer in another language holds

_ROOT: Final = "facts"
_ABSENT: Final = object()


class YrsReplica:
    """A ``FactReplica`` on pycrdt. ``watcher`` hears of every effective change, local or merged."""

    def __init__(self, *, environment: Environment, watcher: FactWatcher) -> None:
        self._environment = environment
        self._watcher = watcher
        self.identity_conflicts = 0
        # What facts were before the merge under way; for who has written nothing there is nothing to get wrong.
        self._undo: dict[str, object] | None = None
        self._begin(self._fresh_id())

    @property
    def writer_id(self) -> int:
        """As the port promises."""
        return self._writer_id

    def apply(self, change: FactChange) -> None:
        """As the port promises."""
        if not change.puts and not change.removals:
            return
        self._observe()
        with _translated("a change"), self._document.transaction():
            for key in change.removals:
                del self._map[key]
            for key, value in change.puts.items():
                self._map[key] = value

    def merge(self, update: bytes) -> bool:
        """As the port promises."""
        if len(update) > UPDATE_BYTES_MAX:
            raise LimitExceeded(
                f"an update of {len(update)} bytes, at most {UPDATE_BYTES_MAX} (update_bytes_max)",
                limit="update_bytes_max",
                allowed=UPDATE_BYTES_MAX,
                actual=len(update),
            )
        if self._subscription is None:
            return self._begin_with(update)
        mine = self._own_clock()
        before = self._effective
        self._undo = {} if mine else None
        try:
            with _translated("an update"):
                self._document.apply_update(update)
        finally:
            undo, self._undo = self._undo, None
        if self._own_clock() != mine:
            self._rotate(update, undo or {})
        return self._effective != before

    def vector(self) -> bytes:
        """As the port promises."""
        return self._document.get_state()

    def has_vector(self, vector: bytes) -> bool:
        """As the port promises."""
        return read_vector(vector) == read_vector(self._document.get_state())

    def delta_since(self, vector: bytes) -> bytes:
        """As the port promises."""
        read_vector(vector)
        try:
            with _translated("a vector"):
                return self._document.get_update(vector)
        except Corrupt as exc:
            raise Invalid("this is not the vector of a replica") from exc

    def encode(self) -> bytes:
        """As the port promises."""
        return self._document.get_update()

    def facts(self) -> Iterable[tuple[str, object]]:
        """As the port promises."""
        return list(self._map.items())

    def _begin(self, writer_id: int) -> None:
        self._writer_id = writer_id
        self._effective = 0
        self._undo = None
        self._document: pycrdt.Doc[Any] = pycrdt.Doc(client_id=writer_id)
        self._map: pycrdt.Map[Any] = self._document.get(_ROOT, type=pycrdt.Map)
        self._subscription: pycrdt.Subscription | None = None

    def _observe(self) -> None:
        if self._subscription is None:
            # Kept for as long as the document: the library loses its footing when observers go while it calls them.
            self._subscription = self._map.observe(self._tell)

    def _begin_with(self, update: bytes) -> bool:
        """Take in the first update, as when a snapshot is loaded: told by reading it, which costs a quarter."""
        try:
            with _translated("an update"):
                self._document.apply_update(update)
        except Corrupt:
            self._begin(self._writer_id)
            raise
        if self._own_clock():
            self.identity_conflicts += 1
            self._begin(self._fresh_id())
            self._document.apply_update(update)
        self._observe()
        facts = self._map.items()
        for key, value in facts:
            self._watcher.put(key, value)
        if facts:
            self._effective += 1
            self._watcher.changed()
        return bool(facts)

    def _tell(self, event: pycrdt.MapEvent) -> None:
        keys: dict[str, dict[str, Any]] = event.keys  # type: ignore[attr-defined]  # the stub leaves it out
        for key, told in keys.items():
            if self._undo is not None:
                self._undo.setdefault(key, told.get("oldValue", _ABSENT))
            if told["action"] == "delete":
                self._watcher.remove(key)
            else:
                self._watcher.put(key, told["newValue"])
        if keys:
            self._effective += 1
            self._watcher.changed()

    def _own_clock(self) -> int:
        return read_vector(self._document.get_state()).get(self._writer_id, 0)

    def _rotate(self, update: bytes, undo: dict[str, object]) -> None:
        """Go on under another id, with the facts of before, written anew, and the update.

        The other writer gave out numbers that were given out here, so that what it removes is not what this replica
        takes it for, and neither ever gets what the other one wrote under those. Its own document has to be left.
        """
        self.identity_conflicts += 1
        told = dict(self._map.items())
        facts = {key: value for key, value in (told | undo).items() if value is not _ABSENT}
        effective = self._effective
        self._begin(self._fresh_id())
        with self._document.transaction():
            for key, value in facts.items():
                self._map[key] = value
        with _translated("an update"):
            self._document.apply_update(update)
        self._effective = effective + 1
        self._observe()
        found = dict(self._map.items())
        for key in told.keys() - found.keys():
            self._watcher.remove(key)
        for key in found.keys() - told.keys():
            self._watcher.put(key, found[key])
        self._watcher.changed()

    def _fresh_id(self) -> int:
        # Two draws, because one float holds no more than 53 bits and the lowest of them are not to be trusted.
        high = int(self._environment.randomness.random() * 2**26)
        low = int(self._environment.randomness.random() * 2**27)
        return (high << 27 | low) or 1


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
        raise
    except BaseException as exc:  # a panic of the library is no Exception
        raise Corrupt(f"{what} of a task list cannot be read or written ({type(exc).__name__})") from exc
