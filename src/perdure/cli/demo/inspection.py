"""What the worker asks git about a commit: three tool calls, each measured, each recorded whether it worked or not."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Self

import msgspec

from perdure.cli.demo.git import GitFailed, Repository, shown
from perdure.cli.demo.triage import Commit, Touched

FILES_MAX: Final = 100  # what a step keeps of a commit that touches half the world
FILES_SEARCHED_MAX: Final = 20
PATH_CHARS_MAX: Final = 300
DAYS: Final = 30  # how far back "shortly before" reaches; git stops walking there
EARLIER_MAX: Final = 20

_MS_A_SECOND: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call as it will be recorded: a result or an error."""

    tool: str
    arguments: Mapping[str, Any]
    result: Any = None
    error: Mapping[str, Any] | None = None
    duration_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found, and by which calls; those are empty when it comes from a recorded step."""

    touched: tuple[Touched, ...] = ()
    earlier_authors: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()

    def output(self) -> dict[str, Any]:
        """What the step records, enough to go on from."""
        return {
            "touched": [msgspec.to_builtins(file) for file in self.touched],
            "earlier_authors": list(self.earlier_authors),
            "failed_calls": sum(call.error is not None for call in self.calls),
        }

    @classmethod
    def from_output(cls, output: Mapping[str, Any]) -> Self:
        """What a recorded step found."""
        return cls(
            touched=msgspec.convert(output["touched"], tuple[Touched, ...]),
            earlier_authors=tuple(output["earlier_authors"]),
        )


async def inspect(repository: Repository, commit: Commit) -> Inspection:
    """Ask git. A call that fails is recorded as failed, and the commit is judged by what else is known."""
    asked = {"commit": commit.hash}
    _, first = await _measured("git.show", {**asked, "format": "stat"}, _stat(repository, commit))
    files, second = await _measured("git.diff_tree", asked, _touched(repository, commit))
    calls = [first, second]
    touched: tuple[Touched, ...] = files or ()
    searched = tuple(file.path for file in touched[:FILES_SEARCHED_MAX])
    names: list[str] = []
    if searched and not commit.is_merge:
        arguments = {"paths": [_readable(path) for path in searched], "days": DAYS, "limit": EARLIER_MAX}
        found, third = await _measured("git.log", arguments, _earlier(repository, commit, searched))
        calls.append(third)
        names = found or []
    kept = tuple(
        Touched(path=_readable(file.path), added=file.added, removed=file.removed) for file in touched[:FILES_MAX]
    )
    return Inspection(touched=kept, earlier_authors=tuple(names), calls=tuple(calls))


async def _measured(tool: str, arguments: Mapping[str, Any], work: Awaitable[tuple[Any, Any]]) -> tuple[Any, Call]:
    """What the work found, and the call as it will be recorded; ``work`` gives both, the second in short."""
    began = perf_counter()
    found = result = error = None
    try:
        found, result = await work
    except GitFailed as exc:
        error = {"code": exc.code.upper(), "message": exc.message}
    duration_ms = (perf_counter() - began) * _MS_A_SECOND
    return found, Call(tool=tool, arguments=arguments, result=result, error=error, duration_ms=duration_ms)


async def _stat(repository: Repository, commit: Commit) -> tuple[Any, Any]:
    output = await repository.stat(commit.hash)
    lines = [shown(line, chars_max=PATH_CHARS_MAX) for line in output.text.splitlines() if line.strip()]
    return None, {"lines": lines, "truncated": output.truncated}


async def _touched(repository: Repository, commit: Commit) -> tuple[Any, Any]:
    files = await repository.touched(commit)
    kept = [msgspec.to_builtins(file) | {"path": _readable(file.path)} for file in files[:FILES_MAX]]
    return files, {"files": kept, "total": len(files)}


async def _earlier(repository: Repository, commit: Commit, paths: tuple[str, ...]) -> tuple[Any, Any]:
    names = await repository.earlier_authors(commit, paths, days=DAYS, limit=EARLIER_MAX)
    return names, {"commits": len(names), "authors": sorted(set(names))}


def _readable(path: str) -> str:
    return shown(path, chars_max=PATH_CHARS_MAX)
