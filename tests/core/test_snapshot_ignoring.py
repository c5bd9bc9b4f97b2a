"""Patterns leave out what they say, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perdure.core.snapshot_ignoring import IGNORE_DEFAULT, PATTERN_CHARS_MAX, PATTERNS_MAX, Ignored
from perdure.core.snapshots import browse, capture
from perdure.errors import Invalid, LimitExceeded
from tests.support.snapshots import Kept, kept, write_tree


@pytest.fixture
async def there() -> AsyncIterator[Kept]:
    async with kept() as found:
        yield found


@pytest.mark.parametrize(
    ("pattern", "covered", "left"),
    [
        ("*.log", ["a.log", "d/a.log", ".log", "a\nb.log"], ["a.log.gz", "alog", "a.LOG"]),
        ("target/**", ["target", "target/a", "target/a/b"], ["a/target", "targets", "a"]),
        ("target/", ["target", "target/a/b"], ["a/target"]),
        ("/target", ["target"], ["a/target", "target2"]),
        ("docs/*.pdf", ["docs/a.pdf"], ["docs/a/b.pdf", "a/docs/a.pdf", "docs"]),
        ("docs/**/*.pdf", ["docs/a.pdf", "docs/a/b/c.pdf"], ["docs/a.txt", "a.pdf"]),
        ("**/build", ["build", "a/build", "a/b/build"], ["builds", "build/a"]),
        ("a/**/**/b", ["a/b", "a/x/y/b"], ["a", "b"]),
        ("**", ["a", "a/b"], []),
        ("?[ab]", ["xa", "d/xb"], ["xc", "a", "xab"]),
        ("a*/b", ["a/b", "axx/b"], ["a/x/b"]),
    ],
)
def test_a_pattern_covers_these_paths(pattern: str, covered: list[str], left: list[str]):
    ignored = Ignored([pattern])
    assert [path for path in covered if not ignored.covers(path)] == []
    assert [path for path in left if ignored.covers(path)] == []


def test_a_path_of_many_parts_is_matched_in_a_moment():
    ignored = Ignored(["**/a/" * 30 + "b"])
    assert not ignored.covers("/".join(["a"] * 128))


@pytest.mark.parametrize("pattern", ["", "/", "a//b", "../a", "a/..", "./a", "//a"])
def test_what_is_no_pattern_is_refused(pattern: str):
    with pytest.raises(Invalid, match="no pattern"):
        Ignored([pattern])


def test_patterns_are_bounded():
    Ignored(["a"] * PATTERNS_MAX)
    Ignored(["a" * PATTERN_CHARS_MAX])
    with pytest.raises(LimitExceeded, match="patterns_max"):
        Ignored(["a"] * (PATTERNS_MAX + 1))
    with pytest.raises(LimitExceeded, match="pattern_chars_max"):
        Ignored(["a" * (PATTERN_CHARS_MAX + 1)])


async def test_what_others_make_is_left_out_unless_asked_for(there: Kept, tmp_path: Path):
    assert ".git/**" in IGNORE_DEFAULT
    assert "target/**" in IGNORE_DEFAULT
    made = {".git": {"HEAD": b""}, "target": {"a.o": b""}, "node_modules": {}, ".venv": {}, ".perdure": {}}
    write_tree(tmp_path, {**made, "src": {"__pycache__": {"a.pyc": b""}, "target": b"a file"}})
    taken = await capture(there.turns, tmp_path, turn_id=there.turn_id)
    assert (taken.files, taken.directories, taken.ignored) == (1, 2, 6)
    assert await browse(there.turns, there.turn_id, "src/target") == b"a file"
    everything = await capture(there.turns, tmp_path, ignore=())
    assert (everything.files, everything.directories, everything.ignored) == (4, 8, 0)
