"""How much a snapshot may be, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from perdure.domain.change_values import refuse_above
from perdure.domain.turn import TURN_PAYLOAD_BYTES_MAX
from perdure.errors import Invalid, LimitExceeded

# What a frame of CXDB carries, less room for the rest: its own clients take files of up to 100 MiB, and lose those
# that no frame holds.
FILE_BYTES_MAX: Final = TURN_PAYLOAD_BYTES_MAX
FILES_MAX: Final = 100_000  # files, directories and links together: what other clients stop at, and a look each
DEPTH_MAX: Final = 128  # directories in directories; deeper is a mistake, and each is a request to read a path


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotLimits:
    """How much is taken, or given back. Each is at most what its default is, else ``LimitExceeded``.

    ``file_bytes_max`` is for taking only: what others kept is given back, however large it is.
    """

    file_bytes_max: int = FILE_BYTES_MAX
    files_max: int = FILES_MAX
    depth_max: int = DEPTH_MAX

    def __post_init__(self) -> None:
        for name, most, value in (
            ("file_bytes_max", FILE_BYTES_MAX, self.file_bytes_max),
            ("files_max", FILES_MAX, self.files_max),
            ("depth_max", DEPTH_MAX, self.depth_max),
        ):
            if value < 0:
                raise Invalid(f"{name} is {value}; expected a number from 0 to {most}")
            refuse_above(name, most, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotProgress:
    """How far a snapshot has come: files, directories and links, and the bytes of files so far."""

    done: int
    total: int
    bytes: int


Progress: TypeAlias = Callable[[SnapshotProgress], None]


def too_many_files(allowed: int, actual: int) -> LimitExceeded:
    """The refusal of a snapshot of more than ``files_max`` files, directories and links."""
    return LimitExceeded(
        f"more than {allowed} files, directories and links in one snapshot (files_max); leave some out with patterns, "
        "or take snapshots of parts",
        limit="files_max",
        allowed=allowed,
        actual=actual,
    )


def too_deep(path: str, allowed: int) -> LimitExceeded:
    """The refusal of a snapshot with a directory below more than ``depth_max`` others."""
    return LimitExceeded(
        f"{path[:200]!a} is deeper than {allowed} directories (depth_max); leave it out with a pattern, or take a "
        "snapshot of a part",
        limit="depth_max",
        allowed=allowed,
        actual=allowed + 1,
    )
