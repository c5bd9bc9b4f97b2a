"""The main job as a user runs it: a real repository, real processes, a real SIGKILL, and everything compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PERDURE = (sys.executable, "-P", "-m", "perdure.cli.main")
COMMITS = 12
TIMEOUT_S = 120


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada Löw", "-c", "user.email=ada@example.test", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(repository), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(repository: Path, subject: str) -> str:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", subject)
    return git(repository, "rev-parse", "HEAD")


def make_repository(path: Path, *, commits: int) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    for number in range(commits):
        (path / f"file {number % 3}.txt").write_text("line\n" * (number + 1))
        commit(path, f"Change number {number}")
    return path


def demo(cwd: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PERDURE, "demo", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def demo_json(cwd: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(demo(cwd, "--json", *arguments).stdout)
    return found


def processes_about(path: Path) -> list[str]:
    """The command lines that name a path; each child of the demo names the data directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(path) in words and "perdure.cli.demo" in words:
            found.append(words)
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "a repository", commits=COMMITS)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A repository whose demo has run once, and what it said; the tests below leave both as they find them."""
    repository = make_repository(tmp_path_factory.mktemp("demo") / "a repository", commits=COMMITS)
    return repository, demo_json(repository)


@pytest.fixture
def interrupted(repository: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has just killed its worker and is not finished."""
    process = subprocess.Popen(
        [*PERDURE, "demo"], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "was killed with SIGKILL" in line:
            break
    yield process
    process.kill()
    process.communicate()


def test_every_commit_is_judged_once_though_a_worker_is_killed(told: tuple[Path, dict[str, Any]]) -> None:
    _, first = told
    assert first["lost"] == 0
    assert first["signals"] == first["new_signals"] == first["runs"] == COMMITS
    assert first["steps"] == 3 * COMMITS
    assert first["tool_calls"] >= 2 * COMMITS
    assert first["effects_delivered"] == first["effects_requested"] > 0
    killed, successor = first["worker_pids"]
    assert first["killed_worker_pid"] == killed != successor
    assert first["runs_taken_over"] == 1
    # The killed worker had committed two steps; each fifth signal was sent twice; one answer was withheld.
    assert first["duplicates"] == {"signals": 3, "steps": 2, "deliveries": 1}
    assert first["duplicates_suppressed"] == 6


def test_running_it_again_does_nothing_twice_and_says_what_to_look_at(told: tuple[Path, dict[str, Any]]) -> None:
    repository, first = told
    second = demo_json(repository)
    unchanged = ("signals", "runs", "steps", "tool_calls", "events", "effects_delivered", "correlation_id", "lost")
    assert {name: second[name] for name in unchanged} == {name: first[name] for name in unchanged}
    assert second["new_signals"] == 0
    assert second["killed_worker_pid"] is None
    assert not processes_about(repository)
    shown = demo(repository).stdout
    assert "effect WEBHOOK_CALL COMPLETED" in shown
    commands = [line.strip() for line in shown.splitlines() if line.startswith("  perdure ")]
    assert len(commands) >= 4
    for command in (*commands, f"perdure trace git/{git(repository, 'rev-parse', 'HEAD')}"):
        words = command.split()[1:]
        done = subprocess.run([*PERDURE, *words], cwd=repository, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stdout.strip(), command


def test_what_the_receiver_has_not_got_is_lost_and_fails_the_demo(told: tuple[Path, dict[str, Any]]) -> None:
    repository, first = told
    journal = repository / ".perdure" / "demo" / "received.jsonl"
    kept = journal.read_bytes()
    journal.write_bytes(b"")
    again = json.loads(demo(repository, "--json", status=1).stdout)
    journal.write_bytes(kept)
    assert again["losses"]["effects_not_received"] == again["lost"] == first["effects_delivered"]


def test_a_repository_elsewhere_with_a_single_commit_is_enough(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "one", commits=1)
    here = tmp_path / "here"
    here.mkdir()
    (here / "json.py").write_text("raise SystemExit('the directory one stands in must not be imported from')\n")
    found = demo_json(here, "--repo", str(repository), "--data-dir", str(tmp_path / "my data"), "--commits", "1")
    assert (found["signals"], found["runs"], found["effects_delivered"], found["lost"]) == (1, 1, 1, 0)
    assert found["killed_worker_pid"] is not None
    assert not (here / ".perdure").exists()
    assert git(repository, "status", "--porcelain") == ""


def test_an_interrupted_demo_leaves_no_process_and_the_next_one_finishes_it(
    repository: Path, interrupted: subprocess.Popen[str]
) -> None:
    interrupted.send_signal(signal.SIGINT)
    output, _ = interrupted.communicate(timeout=TIMEOUT_S)
    assert interrupted.returncode == 130, output
    assert "what was committed is kept" in output
    assert not processes_about(repository)
    found = demo_json(repository)
    assert (found["new_signals"], found["runs"], found["steps"], found["lost"]) == (0, COMMITS, 3 * COMMITS, 0)


def test_children_end_when_the_demo_itself_is_killed(repository: Path, interrupted: subprocess.Popen[str]) -> None:
    # A pidfd becomes readable when its process is gone, so that nobody has to look twice.
    children = Path(f"/proc/{interrupted.pid}/task/{interrupted.pid}/children").read_text().split()
    handles = [os.pidfd_open(int(child)) for child in children if "perdure.cli.demo" in _command_of(child)]
    assert len(handles) >= 2
    interrupted.kill()
    for handle in handles:
        with os.fdopen(handle) as gone:
            _until_readable(gone.fileno())
    found = demo_json(repository)
    assert (found["runs"], found["steps"], found["lost"]) == (COMMITS, 3 * COMMITS, 0)


def test_a_place_without_commits_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert "--repo PATH" in demo(tmp_path, status=1).stderr
    missing = demo(tmp_path, "--repo", str(tmp_path / "nowhere"), status=1).stderr
    assert "is not a directory" in missing
    git(tmp_path, "init", "--quiet")
    assert "has no commits yet" in demo(tmp_path, status=1).stderr
    assert not (tmp_path / ".perdure").exists()


def test_a_machine_without_git_is_told_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PERDURE, "demo"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "git is not on the PATH" in done.stderr


@pytest.mark.parametrize(("commits", "bound"), [("0", "1"), ("10001", "10000")])
def test_the_number_of_commits_is_bounded(tmp_path: Path, commits: str, bound: str) -> None:
    assert f"equal to {bound} " in " ".join(demo(tmp_path, "--commits", commits, status=2).stderr.split())


def _command_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")


def _until_readable(descriptor: int) -> None:
    import select  # noqa: PLC0415 - the one place that waits

    readable, _, _ = select.select([descriptor], [], [], TIMEOUT_S)
    assert readable, "a child outlived the demo"
