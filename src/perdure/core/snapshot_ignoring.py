"""Which paths a snapshot leaves out: patterns as in most files of the kind, without their exceptions."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from typing import Final

from perdure.domain.change_values import refuse_above
from perdure.errors import Invalid

# What is made again from the rest, or belongs to another tool; and the embedded database, which would keep itself. Give
# ``ignore=()`` to leave out nothing.
IGNORE_DEFAULT: Final = (".git/**", ".perdure/**", "target/**", "node_modules/**", ".venv/**", "__pycache__")
PATTERNS_MAX: Final = 1_000  # each is looked at for every path
PATTERN_CHARS_MAX: Final = 4_096  # the longest path of the usual systems
_ANY_DEPTH: Final = "**"


class Ignored:
    """Patterns, ready to be asked.

    A pattern without a slash is matched against the last part of a path: ``*.log``, ``__pycache__``. Any other is
    matched against the whole path, from the root of the snapshot: ``docs/*.pdf``. ``*`` and ``?`` stay within one part
    of a path, ``**`` is any number of parts, and so ``target/**`` is the directory ``target`` and all that is in it.
    ``target/`` is the same. What is in an ignored directory is not looked at.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._names: list[re.Pattern[str]] = []
        self._paths: list[tuple[re.Pattern[str] | None, ...]] = []
        for count, pattern in enumerate(patterns, start=1):
            refuse_above("patterns_max", PATTERNS_MAX, count)
            self._add(pattern)

    def covers(self, path: str) -> bool:
        """Whether a path (relative, with slashes) is left out."""
        parts = path.split("/")
        return any(name.match(parts[-1]) for name in self._names) or any(
            _matches(pattern, parts) for pattern in self._paths
        )

    def _add(self, pattern: str) -> None:
        refuse_above("pattern_chars_max", PATTERN_CHARS_MAX, len(pattern))
        path = f"{pattern}**" if pattern.endswith("/") else pattern
        parts = path.removeprefix("/").split("/")
        if pattern == "/" or any(part in ("", ".", "..") for part in parts):
            raise Invalid(
                f"{ascii(pattern)[:80]} is no pattern of paths to ignore; expected such as '*.log', 'target/**' or "
                "'docs/*.pdf'"
            )
        if "/" in path or _ANY_DEPTH in parts:
            self._paths.append(tuple(None if part == _ANY_DEPTH else _part(part) for part in parts))
        else:
            self._names.append(_part(path))


def _part(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def _matches(pattern: tuple[re.Pattern[str] | None, ...], parts: list[str]) -> bool:
    """Whether the parts of a path are those of a pattern, in which None is any number of parts.

    What is kept is how many parts of the pattern may have been used so far; never more than the pattern is long.
    """
    used = _past_any_depth(pattern, {0})
    for part in parts:
        following: set[int] = set()
        for place in used:
            if place == len(pattern):
                continue
            expected = pattern[place]
            if expected is None:
                following.add(place)
            elif expected.match(part):
                following.add(place + 1)
        used = _past_any_depth(pattern, following)
        if not used:
            return False
    return len(pattern) in used


def _past_any_depth(pattern: tuple[re.Pattern[str] | None, ...], places: set[int]) -> set[int]:
    found = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] is None:
            place += 1  # noqa: PLW2901 - it may be none of the parts
            found.add(place)
    return found
