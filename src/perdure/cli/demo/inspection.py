"""What the worker asks git about a commit: three tool calls, each measured, each recorded whether it worked or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
    calls: list[Call] = []

    async def call(tool: str, arguments: Mapping[str, Any], work: Callable[[], Awaitable[tuple[Any, Any]]]) -> Any:
        """The findings of a tool; what is recorded of it is the other half of what ``work`` gives."""
        began = perf_counter()
        found = result = error = None
        try:
            found, result = await work()
        except GitFailed as exc:
            error = {"code": exc.code.upper(), "message": exc.message}
        duration_ms = (perf_counter() - began) * _MS_A_SECOND
        calls.append(Call(tool=tool, arguments=arguments, result=result, error=error, duration_ms=duration_ms))
        return found

    async def stat() -> tuple[Any, Any]:
        output = await repository.stat(commit.hash)
        lines = [shown(line, chars_max=PATH_CHARS_MAX) for line in output.text.splitlines() if line.strip()]
        return None, {"lines": lines, "truncated": output.truncated}

    async def touched() -> tuple[Any, Any]:
        files = await repository.touched(commit)
        kept = [msgspec.to_builtins(file) | {"path": _readable(file.path)} for file in files[:FILES_MAX]]
        return files, {"files": kept, "total": len(files)}

    async def earlier() -> tuple[Any, Any]:
        names = await repository.earlier_authors(commit, searched, days=DAYS, limit=EARLIER_MAX)
        return names, {"commits": len(names), "authors": sorted(set(names))}

    await call("git.show", {"commit": commit.hash, "format": "stat"}, stat)
    files: tuple[Touched, ...] = await call("git.diff_tree", {"commit": commit.hash}, touched) or ()
    searched = tuple(file.path for file in files[:FILES_SEARCHED_MAX])
    names: list[str] = []
    if searched and not commit.is_merge:
        arguments = {"paths": [_readable(path) for path in searched], "days": DAYS, "limit": EARLIER_MAX}
        names = await call("git.log", arguments, earlier) or []
    kept = tuple(
        Touched(path=_readable(file.path), added=file.added, removed=file.removed) for file in files[:FILES_MAX]
    )
    return Inspection(touched=kept, earlier_authors=tuple(names), calls=tuple(calls))


def _readable(path: str) -> str:
    return shown(path, chars_max=PATH_CHARS_MAX)
