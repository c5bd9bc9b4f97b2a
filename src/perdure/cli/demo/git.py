"""Reading a git repository by running git: every call bounded in time and in bytes, none able to write or to fetch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from perdure.cli.demo.triage import Commit, Touched
from perdure.errors import Refused, Unsupported

SUBJECT_CHARS_MAX: Final = 300  # a subject is a line; whoever writes a book there is quoted from it
AUTHOR_CHARS_MAX: Final = 200
PARENTS_MAX: Final = 16  # an octopus has eight arms

_HISTORY_TIMEOUT_S: Final = 120.0
_HISTORY_BYTES_MAX: Final = 64 * 1_048_576
_CALL_TIMEOUT_S: Final = 10.0
_CALL_BYTES_MAX: Final = 1_048_576
_STAT_BYTES_MAX: Final = 8_192  # sixty files, and what a step may drag along
_ERROR_BYTES_MAX: Final = 4_096
_CHUNK_BYTES: Final = 65_536

# Variables that would point git at another repository than the one that was asked for.
_ELSEWHERE: Final = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_EXTERNAL_DIFF",
    "GIT_TRACE",
)
# A repository's own configuration may name programs to run and formats to print; none of it is wanted here.
_SETTINGS: Final = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "log.showSignature=false",
    "diff.renames=false",
    "color.ui=false",
)
_NO_PROGRAMS: Final = ("--no-ext-diff", "--no-textconv", "--no-renames", "--no-color")
# No field can hold the NUL that ends it, so a record is read without guessing, whatever people write.
_FORMAT: Final = "--format=%x01%H%x00%P%x00%an%x00%aI%x00%s%x00"
_RECORD: Final = re.compile(rb"\x01([0-9a-f]{40,64})\x00([^\x00]*)\x00([^\x00]*)\x00([^\x00]*)\x00([^\x00]*)\x00")
_STAT: Final = re.compile(rb"(\d+) files? changed(?:, (\d+) insertions?\(\+\))?(?:, (\d+) deletions?\(-\))?")
_NUMSTAT: Final = re.compile(rb"(\d+|-)\t(\d+|-)\t([^\x00]+)\x00")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class GitFailed(Refused):
    """Git ended with an error or took too long; the message is its own first line."""

    code = "git_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What git printed; ``truncated`` when it had more to say than it was allowed to."""

    text: bytes
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A repository that git agreed to read. Paths in it are text with undecodable bytes kept as surrogates."""

    path: Path
    program: str

    async def run(
        self,
        *arguments: str,
        merges: str = "off",
        timeout_s: float = _CALL_TIMEOUT_S,
        bytes_max: int = _CALL_BYTES_MAX,
    ) -> Output:
        """What ``git ARGUMENTS`` prints, up to ``bytes_max``; ``merges`` is how it shows them. Raises ``GitFailed``."""
        settings = [part for setting in (*_SETTINGS, f"log.diffMerges={merges}") for part in ("-c", setting)]
        command = [self.program, "-C", str(self.path), "--no-pager", "--literal-pathspecs", *settings, *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        assert process.stdout is not None, "asked for above"
        assert process.stderr is not None, "asked for above"
        errors = asyncio.create_task(_read(process.stderr, bytes_max=_ERROR_BYTES_MAX, drain=True))
        try:
            async with asyncio.timeout(timeout_s):
                output = await _read(process.stdout, bytes_max=bytes_max, drain=False)
                if output.truncated:
                    return output
                complaint = (await errors).text
                status = await process.wait()
        except TimeoutError as exc:
            raise GitFailed(f"git {arguments[0]} took longer than {timeout_s:g} s", code="git_timed_out") from exc
        finally:
            await _ended(process)
            await errors
        if status != 0:
            first = shown(complaint, chars_max=500) or f"exit status {status}"
            raise GitFailed(f"git {arguments[0]}: {first}", status=status)
        return output

    async def history(self, commits_max: int) -> tuple[Commit, ...]:
        """The newest commits that HEAD reaches, newest first. Raises ``GitFailed``.

        A partial clone may not have what the sizes are computed from, and nothing is fetched; then they are None.
        """
        try:
            return await self._history("--shortstat", commits_max=commits_max)
        except GitFailed as exc:
            if exc.code == "git_timed_out":
                raise
            return await self._history("--no-patch", commits_max=commits_max)

    async def _history(self, sizes: str, *, commits_max: int) -> tuple[Commit, ...]:
        output = await self.run(
            "log",
            f"--max-count={commits_max}",
            "--encoding=UTF-8",
            _FORMAT,
            sizes,
            *_NO_PROGRAMS,
            "HEAD",
            "--",
            timeout_s=_HISTORY_TIMEOUT_S,
            bytes_max=_HISTORY_BYTES_MAX,
        )
        return tuple(parse_history(output.text))[:commits_max]

    async def stat(self, commit: str) -> Output:
        """``git show --stat``: what a person would look at first. Raises ``GitFailed``."""
        bounds = ("--stat=120,80,60", "--format=", "-m", "--first-parent")
        return await self.run(
            "show", *bounds, *_NO_PROGRAMS, commit, "--", merges="first-parent", bytes_max=_STAT_BYTES_MAX
        )

    async def touched(self, commit: Commit) -> tuple[Touched, ...]:
        """The files that a commit touched; of a merge, compared with its first parent. Raises ``GitFailed``."""
        sides = (commit.parents[0], commit.hash) if commit.parents else (commit.hash,)
        wanted = ("-r", "-z", "--root", "--no-commit-id", "--numstat", *_NO_PROGRAMS)
        return tuple(parse_numstat((await self.run("diff-tree", *wanted, *sides, "--")).text))

    async def earlier_authors(self, commit: Commit, paths: tuple[str, ...], *, days: int, limit: int) -> list[str]:
        """Who made the commits that touched these paths in the days before, one name each. Raises ``GitFailed``."""
        bounds = [f"--max-count={limit + 1}"]
        if commit.authored_at is not None:
            bounds.append(f"--since={int(commit.authored_at.timestamp()) - days * 86_400}")
        wanted = ("--encoding=UTF-8", "--format=%H%x00%an")
        output = await self.run("log", *bounds, *wanted, commit.hash, "--", *paths)
        lines = [line.partition(b"\x00") for line in output.text.splitlines()]
        return [shown(name, chars_max=AUTHOR_CHARS_MAX) for found, _, name in lines if found.decode() != commit.hash]


async def open_repository(path: Path) -> Repository:
    """The repository at, or above, ``path``, with at least one commit.

    Raises ``Unsupported`` without git and ``Refused`` for a place that has nothing to read.
    """
    program = shutil.which("git")
    if program is None:
        raise Unsupported("git is not on the PATH, and the demo reads real commits with it; install git and try again")
    other = "stand in a repository, or name one with --repo PATH"
    place = await asyncio.to_thread(_directory, path)
    if place is None:
        raise Refused(f"{path} is not a directory; {other}", code="no_repository")
    repository = Repository(path=place, program=program)
    try:
        await repository.run("rev-parse", "--absolute-git-dir")
    except GitFailed as exc:
        if "not a git repository" in exc.message:
            raise Refused(f"{repository.path} is not in a git repository; {other}", code="no_repository") from exc
        raise Refused(f"git does not read {repository.path}: {exc.message}; {other}", code="no_repository") from exc
    try:
        await repository.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except GitFailed as exc:
        raise Refused(f"{repository.path} has no commits yet; commit something, {other}", code="no_commits") from exc
    return repository


def _directory(path: Path) -> Path | None:
    return path.resolve() if path.is_dir() else None


def parse_history(text: bytes) -> Iterator[Commit]:
    """The commits in what ``git log`` printed in ``_FORMAT``, each followed by its sizes if it has any."""
    records = list(_RECORD.finditer(text))
    for position, record in enumerate(records):
        end = records[position + 1].start() if position + 1 < len(records) else len(text)
        found, parents, author, at, subject = record.groups()
        stat = _STAT.search(text, record.end(), end)
        files, insertions, deletions = (int(count or 0) for count in stat.groups()) if stat else (None, None, None)
        yield Commit(
            hash=found.decode(),
            parents=tuple(parents.decode().split()[:PARENTS_MAX]),
            author=shown(author, chars_max=AUTHOR_CHARS_MAX),
            authored_at=_moment(at),
            subject=shown(subject, chars_max=SUBJECT_CHARS_MAX),
            files=files,
            insertions=insertions,
            deletions=deletions,
        )


def parse_numstat(text: bytes) -> Iterator[Touched]:
    """The files in what ``--numstat -z`` printed; a name may hold anything but NUL, so nothing is quoted."""
    for match in _NUMSTAT.finditer(text):
        added, removed, path = match.groups()
        yield Touched(
            path=os.fsdecode(path),
            added=None if added == b"-" else int(added),
            removed=None if removed == b"-" else int(removed),
        )


def shown(text: str | bytes, *, chars_max: int) -> str:
    """One bounded line that can be kept as JSON and printed, whatever bytes somebody committed."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return _CONTROL.sub(" ", raw.decode("utf-8", "replace")).strip()[:chars_max]


def _moment(text: bytes) -> datetime | None:
    # Histories imported from elsewhere have impossible dates and zones.
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(text.decode())
    return None


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    # The last two keep a partial clone from fetching what it does not have.
    return inherited | {
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "",
    }


async def _read(stream: asyncio.StreamReader, *, bytes_max: int, drain: bool) -> Output:
    """Up to ``bytes_max`` bytes; with ``drain`` what comes after them is read and dropped, so that nothing blocks."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        kept += chunk[: max(0, bytes_max - len(kept)) + 1]
        if len(kept) > bytes_max and not drain:
            break
    return Output(text=bytes(kept[:bytes_max]), truncated=len(kept) > bytes_max)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    # What is still in the pipe is in the way of its end.
    assert process.stdout is not None, "asked for when it was started"
    while await process.stdout.read(_CHUNK_BYTES):
        continue
    await process.wait()
