"""Stores of task-list snapshots for tests, and file operations that fail, die or are written down."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import pytest

from perdure.adapters.nodefiles.file_operations import FileOps
from perdure.adapters.nodefiles.snapshot_store import NodeFiles
from perdure.core.tasklist_events import EventName
from perdure.core.tasklist_recovery import Recovery
from perdure.core.tasklist_root import SnapshotRoot
from perdure.core.tasklist_writing import KeptList, RootWriter
from perdure.domain.tasklists.failures import SnapshotDecode
from perdure.domain.tasklists.settings import PersistenceMode, PersistencePolicy, RetentionPolicy
from perdure.domain.tasklists.snapshot_format import Codec, Snapshot, encode_snapshot
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import PerdureError
from perdure.ports.environment import Environment
from perdure.testing.environment import CountingIds, FakeClock, SeededRandomness

CODEC: Final = Codec(marker="test-number")
LIST: Final = "groceries"
LEGACY: Final = b'{"ciphertext":"abc","nonce":"123","key_id":"k1"}'
# Asking who one is cannot fail.
OPERATIONS: Final = tuple(name for name in vars(FileOps) if not name.startswith("_") and name != "process_id")


class WanderingClock:
    """Monotonic time that only goes on, and a time of day that a test sets as it likes."""

    def __init__(self) -> None:
        self._monotonic = FakeClock()
        self.today = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The time of day."""
        return self.today

    def monotonic(self) -> float:
        """Seconds that were advanced."""
        return self._monotonic.monotonic()

    def advance(self, seconds: float) -> None:
        """Let both go on."""
        self._monotonic.advance(seconds)
        self.today += timedelta(seconds=seconds)


def environment(clock: WanderingClock | FakeClock | None = None, *, space: int = 0) -> Environment:
    """Fake time, chance and ids."""
    return Environment(clock=clock or WanderingClock(), randomness=SeededRandomness(), ids=CountingIds(space))


def number(value: int) -> bytes:
    """A payload that holds a number, twice, so that no torn one is taken for whole."""
    return f"number {value} {value}".encode()


def decode_number(payload: bytes) -> int:
    """The number in a payload."""
    word, first, second = [*payload.split(), b"", b"", b""][:3]
    if word != b"number" or first != second:
        raise SnapshotDecode("the payload is not a number twice")
    return int(first)


class Events:
    """What was emitted."""

    def __init__(self) -> None:
        self.seen: list[tuple[EventName, Mapping[str, object]]] = []

    def __call__(self, name: EventName, fields: Mapping[str, object]) -> None:
        """Remember it."""
        self.seen.append((name, fields))

    @property
    def names(self) -> list[EventName]:
        """The names, in order."""
        return [name for name, _ in self.seen]

    def of(self, name: EventName) -> list[Mapping[str, object]]:
        """The fields of all events of that name."""
        return [fields for seen, fields in self.seen if seen is name]


def policy(mode: str = "degraded", *, initialize: bool = True, **retention: Any) -> PersistencePolicy:
    """A policy of that mode; strict initialises what is missing unless told otherwise."""
    return PersistencePolicy(
        mode=PersistenceMode(mode),
        initialize_if_missing=initialize,
        retention=RetentionPolicy(**retention),
    )


def node_files(root: Path, files: FileOps | None = None, *, space: int = 0) -> NodeFiles:
    """A store, not opened."""
    return NodeFiles(root, ids=CountingIds(space), files=files)


class Opened:
    """A root that was opened by this thread, with one list; blocking, for sweeps."""

    def __init__(
        self,
        root: Path,
        rules: PersistencePolicy,
        *,
        files: FileOps | None = None,
        clock: WanderingClock | None = None,
        entity_id: str = LIST,
        load_older: bool = False,
    ) -> None:
        self.events = Events()
        self.store = node_files(root, files)
        self.writer = RootWriter(self.store, policy=rules, environment=environment(clock), emit=self.events)
        self.writer.start()
        try:
            self.kept: KeptList
            self.recovery: Recovery[int]
            self.kept, self.recovery = self.writer.recover(
                entity_id, codec=CODEC, decode=decode_number, load_older=load_older
            )
        except BaseException:
            self.writer.stop()
            raise

    def write(self, value: int) -> int:
        """Write a number and return the moment in its name."""
        return self.writer.write(self.kept, number(value)).timestamp_ms

    def close(self) -> None:
        """Let go of it."""
        self.writer.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def snapshot_root(
    root: Path,
    rules: PersistencePolicy | None = None,
    *,
    files: FileOps | None = None,
    clock: WanderingClock | None = None,
    events: Events | None = None,
) -> SnapshotRoot:
    """A root for an event loop, not opened."""
    return SnapshotRoot(
        node_files(root, files),
        policy=rules or policy(),
        environment=environment(clock),
        emit=events or Events(),
    )


def encoded(value: int, *, generation: int = 1, entity_id: str = LIST, codec: Codec = CODEC) -> bytes:
    """The bytes of a whole snapshot."""
    snapshot = Snapshot(
        entity_id=entity_id, generation=generation, created_at_ms=1_000, codec=codec, payload=number(value)
    )
    return b"".join(encode_snapshot(snapshot))


def put(root: Path, timestamp_ms: int, data: bytes, *, entity_id: str = LIST) -> Path:
    """Put a file where a snapshot would be."""
    directory = root / entity_id
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / snapshot_name(timestamp_ms)
    path.write_bytes(data)
    return path


def initialize(root: Path, *, lists: tuple[str, ...] = ()) -> None:
    """Make a root that strict opens."""
    with Opened(root, policy("strict"), entity_id=lists[0] if lists else LIST):
        pass


def tree(root: Path) -> dict[str, bytes]:
    """Every regular file below a root but its lock, with its bytes."""
    paths = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths if path.name != ".lock"}


def temporaries(root: Path) -> list[str]:
    """What writers left."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.tmp"))


def root_with(root: Path, *newest_first: bytes) -> None:
    """An initialised root with these files of one list."""
    initialize(root)
    for age, data in enumerate(newest_first):
        put(root, 1_000 - age, data)


def strict_refuses(root: Path, expected: type[PerdureError], *, code: str) -> None:
    """Strict fails so, twice, and moves nothing."""
    before = tree(root)
    for _ in range(2):
        with pytest.raises(expected) as refused:
            Opened(root, policy("strict", initialize=False))
        assert refused.value.code == code
        assert tree(root) == before


Fault = Callable[[int, str, tuple[Any, ...]], BaseException | str | None]


class FaultyFiles(FileOps):
    """Counts operations, and fails those that ``fault`` says: an error instead of the call, ``after`` it, or ``short``.

    A write that is ``short`` takes one byte; of other operations nothing is short.
    """

    def __init__(self, fault: Fault = lambda _number, _name, _arguments: None) -> None:
        self.fault = fault
        self.calls: list[str] = []

    def run(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do one operation, or not."""
        at = len(self.calls)
        self.calls.append(name)
        fault = self.fault(at, name, arguments)
        if isinstance(fault, BaseException):
            if name == "close":
                super().close(*arguments)  # a close that fails has closed
            raise fault
        if fault == "short" and name == "write":
            fd, data = arguments
            return super().write(fd, data[:1])
        result = getattr(FileOps, name)(self, *arguments)
        if fault == "after":
            if name in {"open", "open_directory"}:
                super().close(result)  # there is no file that is open and that nobody knows
            raise OSError(errno.EIO, "the answer was lost")
        return result


def _intercepted(name: str) -> Callable[..., Any]:
    def operation(self: FaultyFiles, *arguments: Any) -> Any:
        return self.run(name, arguments)

    return operation


for _name in OPERATIONS:
    setattr(FaultyFiles, _name, _intercepted(_name))


def failing_at(at: int, code: int | str) -> Fault:
    """Fail the operation with that number; ``code`` is an errno, or what ``FaultyFiles`` knows."""

    def fault(number_: int, _name: str, _arguments: tuple[Any, ...]) -> BaseException | str | None:
        if number_ != at:
            return None
        return code if isinstance(code, str) else OSError(code, os.strerror(code))

    return fault


def failing_always(code: int, *names: str) -> Fault:
    """Fail every operation of those names."""
    return lambda _number, name, _arguments: OSError(code, os.strerror(code)) if name in names else None


def killing_at(at: int) -> Fault:
    """Kill this process instead of the operation with that number."""

    def fault(number_: int, _name: str, _arguments: tuple[Any, ...]) -> None:
        if number_ == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return fault
