"""What git prints is read without guessing, whatever people commit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from perdure.cli.demo.git import GitFailed, open_repository, parse_history, parse_numstat, shown
from perdure.cli.demo.inspection import FILES_MAX, Inspection, inspect
from perdure.cli.demo.triage import Commit, Touched

HASH = "0123456789abcdef0123456789abcdef01234567"


def git(repository: Path, *arguments: str | bytes) -> str:
    identity = ("-c", 'user.name=Ünï "Q" Cödé', "-c", "user.email=u@example.test", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(repository), *identity, *arguments], capture_output=True, check=True)
    return done.stdout.decode(errors="replace").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "with space"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "a.txt").write_text("one\ntwo\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "Begin")
    return path


def record(*, subject: bytes = b"subject", author: bytes = b"A", at: bytes = b"2026-01-02T03:04:05+01:00") -> bytes:
    return b"\x00".join((b"\x01" + HASH.encode(), b"", author, at, subject, b""))


async def test_odd_names_merges_and_binary_files_are_read_as_they_are(repository: Path) -> None:
    odd = os.fsdecode(b'tab\t"quote"\nline \xc3\xbc \xff.txt')
    (repository / odd).write_text("x\n")
    (repository / "picture.bin").write_bytes(b"\x00\x01\x02")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", 'Add "odd" things: ünïcode, a\x01control and a\ttab')
    git(repository, "checkout", "--quiet", "-b", "side", "HEAD~1")
    (repository / "a.txt").write_text("one\ntwo\nthree\n")
    git(repository, "commit", "--quiet", "-am", "Side")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "merge", "--quiet", "--no-ff", "-m", "Merge side", "side")

    opened = await open_repository(repository)
    commits = {one.subject: one for one in await opened.history(10)}
    assert len(commits) == 4
    odd_commit = commits['Add "odd" things: ünïcode, a control and a tab']
    assert odd_commit.author == 'Ünï "Q" Cödé'
    assert (odd_commit.files, odd_commit.insertions, odd_commit.deletions) == (2, 1, 0)
    touched = {file.path: file for file in await opened.touched(odd_commit)}
    assert touched["picture.bin"] == Touched(path="picture.bin", added=None, removed=None)
    assert set(touched) == {"picture.bin", odd}

    merge = commits["Merge side"]
    assert merge.is_merge
    assert merge.files is None
    assert await opened.touched(merge) == (Touched(path="a.txt", added=1, removed=0),)
    assert b"a.txt" in (await opened.stat(merge.hash)).text


async def test_every_call_to_git_is_recorded_with_its_duration_and_can_be_read_back(repository: Path) -> None:
    (repository / "a.txt").write_text("changed\n")
    git(repository, "commit", "--quiet", "-am", "Change")
    opened = await open_repository(repository / ".git" / "..")
    newest = (await opened.history(1))[0]
    inspection = await inspect(opened, newest)
    assert [call.tool for call in inspection.calls] == ["git.show", "git.diff_tree", "git.log"]
    assert all(call.error is None and call.duration_ms > 0 for call in inspection.calls)
    assert inspection.earlier_authors == ('Ünï "Q" Cödé',)
    again = Inspection.from_output(inspection.output())
    assert (again.touched, again.earlier_authors) == (inspection.touched, inspection.earlier_authors)


async def test_a_commit_that_is_not_there_is_a_failed_call_and_no_error(repository: Path) -> None:
    opened = await open_repository(repository)
    (known,) = await opened.history(1)
    gone = Commit.from_payload({**known.payload(), "hash": HASH})
    inspection = await inspect(opened, gone)
    assert [call.error is None for call in inspection.calls] == [False, False]
    assert inspection.calls[0].error is not None
    assert inspection.calls[0].error["code"] == "GIT_FAILED"
    assert inspection.touched == ()


async def test_a_commit_of_more_files_than_a_step_keeps_is_cut_and_says_how_many(repository: Path) -> None:
    for number in range(FILES_MAX + 1):
        (repository / f"{number}.txt").write_text("x\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "Many")
    opened = await open_repository(repository)
    (newest,) = await opened.history(1)
    inspection = await inspect(opened, newest)
    assert len(inspection.touched) == FILES_MAX
    assert inspection.calls[1].result["total"] == FILES_MAX + 1


async def test_a_shallow_clone_is_read_as_far_as_it_goes(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "--quiet", "--allow-empty", "-m", "Second")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    opened = await open_repository(tmp_path / "shallow")
    (only,) = await opened.history(10)
    assert only.parents == ()
    assert [file.path for file in await opened.touched(only)] == ["a.txt"]


async def test_a_call_is_cut_off_at_its_limits(repository: Path) -> None:
    opened = await open_repository(repository)
    whole = await opened.run("rev-parse", "HEAD", bytes_max=41)
    assert (len(whole.text), whole.truncated) == (41, False)
    part = await opened.run("rev-parse", "HEAD", bytes_max=40)
    assert (len(part.text), part.truncated) == (40, True)
    with pytest.raises(GitFailed, match="took longer than"):
        await opened.run("cat-file", "--batch-all-objects", "--batch", timeout_s=0.0)


async def test_a_configuration_that_runs_programs_runs_none(repository: Path, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    for setting in ("core.fsmonitor", "diff.external", "core.pager"):
        git(repository, "config", setting, f"touch {trap} #")
    (repository / ".gitattributes").write_text("*.txt diff=trap\n")
    git(repository, "config", "diff.trap.textconv", f"touch {trap}; cat")
    git(repository, "config", "log.diffMerges", "combined")
    opened = await open_repository(repository)
    (only,) = await opened.history(1)
    inspection = await inspect(opened, only)
    assert all(call.error is None for call in inspection.calls)
    assert not trap.exists()


@pytest.mark.fast
def test_a_subject_cannot_pass_for_another_commit() -> None:
    fake = b"x \x01" + HASH.encode() + b" 9 files changed, 9 insertions(+)"
    text = record(subject=fake) + b"\n 1 file changed, 2 deletions(-)\n" + record() + b"\n"
    first, second = parse_history(text)
    assert (first.files, first.insertions, first.deletions) == (1, 0, 2)
    assert (second.subject, second.files) == ("subject", None)


@pytest.mark.fast
def test_impossible_dates_and_undecodable_text_are_no_obstacle() -> None:
    (found,) = parse_history(record(author=b"\xe9\xff", at=b"", subject=b"\x1b[31mred\xe2\x80\xa8end"))
    assert (found.author, found.authored_at, found.subject) == ("��", None, "[31mred end")


@pytest.mark.fast
def test_numbers_of_a_binary_file_are_unknown_and_names_are_not_quoted() -> None:
    found = list(parse_numstat(b'-\t-\tp.bin\x003\t0\ta\tb\n"c"\x00'))
    assert found == [
        Touched(path="p.bin", added=None, removed=None),
        Touched(path='a\tb\n"c"', added=3, removed=0),
    ]


@pytest.mark.fast
def test_what_is_shown_is_one_bounded_line() -> None:
    assert shown("a\nb\x00c" + "d" * 10, chars_max=6) == "a b cd"
