"""Records as lines of JSON: what dead-letter and spill files are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from perdure.domain.telemetry import TelemetryRecord
from perdure.errors import Corrupt

_MODE: Final = 0o600  # what telemetry holds is nobody's but its owner's
_DIRECTORY_MODE: Final = 0o700


_SCALARS: Final = (
    "entry_id",
    "instance_id",
    "log_type",
    "unit_id",
    "actor_id",
    "role_id",
    "interaction_id",
    "timestamp",
)
_TEXTS: Final = ("event_details", "error_metadata")
_RECORD: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_line(record: TelemetryRecord, *, problem: str | None = None) -> bytes:
    """A record as a line. ``problem`` is why it could not be written."""
    fields: dict[str, object] = {name: getattr(record, name) for name in _SCALARS}
    for name in _TEXTS:
        text = getattr(record, name)
        fields[name] = None if text is None else msgspec.Raw(text)
    if problem is not None:
        fields["problem"] = problem
    return msgspec.json.encode(fields) + b"\n"


def decode_line(line: bytes) -> TelemetryRecord:
    """The record of a line. Raises ``Corrupt`` for what is none."""
    try:
        raw = _RECORD.decode(line)
        texts = {name: bytes(raw[name]) for name in _TEXTS}
        scalars = {name: msgspec.json.decode(raw[name]) for name in _SCALARS}
        shaped = {**scalars, **{name: None if text == b"null" else text for name, text in texts.items()}}
        return msgspec.convert(shaped, TelemetryRecord, builtin_types=(bytes,))
    except (msgspec.MsgspecError, KeyError, ValueError) as exc:
        raise Corrupt("a line of a telemetry file is no entry; was it written by something else?") from exc


def open_private(path: Path, flags: int) -> int:
    """A file descriptor of a file that only its owner can read, in a directory that only its owner can look into."""
    path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, _MODE)


def write_all(descriptor: int, data: bytes) -> None:
    """All of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class DeadLetters:
    """A file of entries that no store would take, each with the reason: JSON lines, readable by its owner only.

    It and the one before it, ``.1``, hold ``bytes_max`` together; beyond that the older half is gone.
    """

    def __init__(self, path: Path, *, bytes_max: int) -> None:
        self._path = path
        self._half_bytes = bytes_max // 2

    def append(self, records: Iterable[tuple[TelemetryRecord, str]]) -> None:
        """Add entries, each with what was said of it, and see them on disk. Raises ``OSError``."""
        data = b"".join(encode_line(record, problem=problem) for record, problem in records)
        descriptor = open_private(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(descriptor).st_size + len(data) > self._half_bytes and os.fstat(descriptor).st_size:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                os.close(descriptor)
                descriptor = open_private(self._path, os.O_WRONLY | os.O_APPEND)
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self) -> Sequence[bytes]:
        """The lines of the newer half, oldest first; none if there is no file."""
        return self._path.read_bytes().splitlines() if self._path.exists() else ()
