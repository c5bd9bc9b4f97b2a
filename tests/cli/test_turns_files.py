"""``perdure turns snapshot``, ``files`` and ``restore``, on a real database."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.commands.turns_files import shown_progress
from perdure.cli.main import app
from perdure.core.snapshots import SnapshotProgress
from perdure.errors import Forbidden, Invalid, NotFound
from tests.support.databases import Database
from tests.support.routed import Operator
from tests.support.snapshots import Node, names_in, read_tree, write_tree

ROOT: dict[str, Node] = {"a.txt": b"hello\n", "src": {"main.py": b"\xff\x00"}, "link": "src"}


class Keyboard:
    """Somebody who types ``perdure turns``."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        where = ["--dsn", database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
        self._where = [*where, "--data-dir", str(data_dir)]

    def run(self, *words: str) -> Result:
        """The command, whatever becomes of it."""
        return CliRunner().invoke(app, ["turns", *words, *self._where])

    def said(self, *words: str) -> Result:
        """The command, which succeeds."""
        result = self.run(*words)
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return result

    def printed(self, *words: str) -> Any:
        """The JSON document that it prints."""
        return json.loads(self.said(*words, "--json").stdout)

    def refusal(self, *words: str) -> BaseException | None:
        """What it raises."""
        result = self.run(*words)
        assert result.stdout == ""
        return result.exception


@pytest.fixture
def keyboard(database: Database, tmp_path: Path) -> Keyboard:
    return Keyboard(database, tmp_path / "data")


@pytest.fixture
def turn(database: Database, tmp_path: Path) -> str:
    lab = Operator(database=database, data_dir=tmp_path / "data")
    for kind in ("turns", "objects"):
        lab.said("set", kind, "t_acme", "--backend", "postgres")

    async def appended() -> str:
        async with lab.plane() as plane:
            turns = plane.scope("t_acme", actor="agent:tester").turns
            context = await turns.create()
            return (await turns.append(context.context_id, b"hi", type_id="note")).turn_id

    return lab.apart(appended())


def test_a_directory_is_kept_listed_read_and_written_back(keyboard: Keyboard, turn: str, tmp_path: Path):
    work = write_tree(tmp_path / "work", {**ROOT, ".git": {"HEAD": b""}})
    (work / "a.txt").chmod(0o640)
    (work / "src").chmod(0o755)
    said = keyboard.said("snapshot", str(work), "--turn", turn)
    assert said.stdout.endswith(f" is at turn {turn}: 2 files (8 bytes), 2 directories, 1 links\n")
    assert said.stderr == ""

    table = [line.split()[:-1] for line in keyboard.said("files", turn).stdout.splitlines()[1:]]
    assert table == [
        ["640", "file", "6", "a.txt"], ["777", "symlink", "3", "link"], ["755", "dir", "src"],
    ]  # fmt: skip
    found = keyboard.printed("files", turn)
    assert said.stdout.startswith(found["root"])
    assert [(one["name"], one["kind"], one["mode"], one["size"]) for one in found["entries"]] == [
        ("a.txt", "file", "640", 6), ("link", "symlink", "777", 3), ("src", "dir", "755", 0),
    ]  # fmt: skip
    assert keyboard.said("files", turn, "src/main.py").stdout_bytes == b"\xff\x00"
    assert keyboard.said("files", turn, "link").stdout == "src"
    one = keyboard.printed("files", turn, "src/main.py")
    assert (one["path"], base64.b64decode(one["content_base64"])) == ("src/main.py", b"\xff\x00")
    keyboard.said("files", turn, "a.txt", "--output", str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"hello\n"

    restored = keyboard.said("restore", turn, str(tmp_path / "then")).stdout
    assert restored == f"{tmp_path}/then is as it was at turn {turn}: 2 files (8 bytes), 2 directories, 1 links\n"
    assert read_tree(tmp_path / "then") == ROOT
    assert ((tmp_path / "then" / "a.txt").stat().st_mode & 0o777) == 0o640
    counts = keyboard.printed("restore", turn, str(tmp_path / "again"))
    assert counts == {"root": found["root"], "files": 2, "directories": 2, "symlinks": 1, "bytes": 8}


def test_what_is_not_in_it_is_said(keyboard: Keyboard, turn: str, tmp_path: Path):
    work = write_tree(tmp_path / "work", {"a": b"a", "b.log": b"", ".git": {"HEAD": b""}, "link": "a"})
    os.mkfifo(work / "pipe")
    said = keyboard.said("snapshot", str(work), "--turn", turn, "--ignore", "*.log")
    assert said.stderr == "not in the snapshot: pipe: not a regular file\n"
    done = keyboard.printed("snapshot", str(work), "--turn", turn, "--all", "--follow-symlinks")
    assert (done["files"], done["symlinks"], done["ignored"]) == (4, 0, 0)
    assert done["skipped"] == [{"path": "pipe", "reason": "not a regular file"}]
    assert isinstance(keyboard.refusal("snapshot", str(work), "--turn", turn, "--strict"), Invalid)


def test_what_cannot_be_done_is_refused_and_leaves_nothing(keyboard: Keyboard, turn: str, tmp_path: Path):
    assert isinstance(keyboard.refusal("files", turn), NotFound)
    assert isinstance(keyboard.refusal("snapshot", str(tmp_path / "no"), "--turn", turn), NotFound)
    work = write_tree(tmp_path / "work", {"out": "/etc", "d": {}})
    keyboard.said("snapshot", str(work), "--turn", turn)
    assert keyboard.said("files", turn, "d").stderr == "the directory was empty\n"
    assert isinstance(keyboard.refusal("restore", turn, str(work)), Invalid)
    assert isinstance(keyboard.refusal("restore", turn, str(tmp_path / "then")), Forbidden)
    assert isinstance(keyboard.refusal("files", turn, "../d"), Invalid)
    assert keyboard.run("files", turn, "d", "--output", str(tmp_path / "f")).exit_code == 2
    assert set(names_in(tmp_path)) - {"data"} == {"work"}
    keyboard.said("restore", turn, str(tmp_path / "then"), "--outside-links")
    assert read_tree(tmp_path / "then") == {"out": "/etc", "d": {}}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_a_moving_bar(monkeypatch: pytest.MonkeyPatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown_progress() as progress:
        for number in range(1, 4):
            progress(SnapshotProgress(done=number, total=3, bytes=number * 1_000))
    assert "3,000 bytes" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_elsewhere_nothing_is_said_before_the_end(capsys: pytest.CaptureFixture[str]):
    with shown_progress() as progress:
        assert progress is None
    assert capsys.readouterr().err == ""
