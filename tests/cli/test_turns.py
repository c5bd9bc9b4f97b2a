"""``perdure turns``: contexts are listed, shown, forked and compared, and go into files and out of them whole."""

from __future__ import annotations

import base64
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.domain.turn import INLINE_BYTES_MAX
from perdure.errors import Corrupt, DigestMismatch, Invalid, NotFound, PerdureError
from tests.support.databases import Database, run_apart
from tests.support.stories import ACTOR, plane_on

LARGE = b"x" * (INLINE_BYTES_MAX + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Somebody at the keyboard, a conversation of three turns, and a fork of it."""

    database: Database
    chat: str
    fork: str
    turns: tuple[str, ...]

    def run(self, *words: str, stdin: bytes | None = None) -> Result:
        """``perdure turns`` with these words."""
        where = ["--dsn", self.database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
        return CliRunner().invoke(app, ["turns", *words, *where], input=stdin)

    def done(self, *words: str, stdin: bytes | None = None) -> Result:
        """A command that succeeds."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return result

    def printed(self, *words: str, stdin: bytes | None = None) -> Any:
        """The JSON document that it prints."""
        return json.loads(self.done(*words, "--json", stdin=stdin).stdout)

    def refusal(self, *words: str, stdin: bytes | None = None) -> PerdureError:
        """The error with which a command is refused."""
        result = self.run(*words, stdin=stdin)
        assert isinstance(result.exception, PerdureError), f"{result.output} {result.exception!r}"
        assert result.stdout == ""
        return result.exception

    def number_of_contexts(self) -> int:
        """How many contexts there are."""
        return len(self.printed("contexts")["items"])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def desk(database: Database) -> Desk:
    async def written() -> Desk:
        async with plane_on(database) as plane:
            turns = plane.scope("t_acme", actor=ACTOR).turns
            chat = await turns.create(labels=["thread:7", "zwölf"])
            refs = [
                await turns.append(chat.context_id, said, type_id="acme.user", idempotency_key=f"m-{number}")
                for number, said in enumerate((b"what is due?", LARGE, b"\x1b[2Jbye"))
            ]
            fork = await turns.fork(refs[1].turn_id)
            await turns.append(fork.context_id, b"ask back", type_id="acme.assistant", type_version=2)
            return Desk(
                database=database,
                chat=chat.context_id,
                fork=fork.context_id,
                turns=tuple(ref.turn_id for ref in refs),
            )

    return run_apart(written())


def test_contexts_are_listed_page_by_page_and_by_label(desk: Desk):
    table = desk.done("contexts").stdout.splitlines()
    assert table[0].split() == ["CONTEXT", "TURNS", "HEAD", "FORKED", "FROM", "LABELS", "CREATED"]
    assert {line.split()[0] for line in table[1:]} == {desk.chat, desk.fork}
    assert next(line for line in table if line.split()[0] == desk.fork).split()[3] == desk.turns[1]
    first = desk.printed("contexts", "--limit", "1")
    second = desk.printed("contexts", "--limit", "1", "--cursor", first["next_cursor"])
    assert {one["context_id"] for one in first["items"] + second["items"]} == {desk.chat, desk.fork}
    assert desk.done("contexts", "--limit", "1").stderr == f"more: --cursor {first['next_cursor']}\n"
    (labelled,) = desk.printed("contexts", "--label", "zwölf")["items"]
    assert (labelled["context_id"], labelled["labels"]) == (desk.chat, ["thread:7", "zwölf"])
    nothing = desk.done("contexts", "--label", "other")
    assert (nothing.stdout, nothing.stderr) == ("", "no contexts\n")
    assert isinstance(desk.refusal("contexts", "--cursor", "x"), Invalid)


def test_turns_are_shown_oldest_first_and_page_by_page(desk: Desk):
    shown = desk.done("show", desk.chat)
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["#", "TURN", "TYPE", "BYTES", "RECORDED", "PAYLOAD"]
    assert [line.split()[:4] for line in lines[1:]] == [
        [str(number), turn_id, "acme.user", "v1"] for number, turn_id in enumerate(desk.turns, start=1)
    ]
    assert lines[1].endswith("what is due?")
    assert lines[2].endswith("xxx...")
    assert lines[3].endswith("\\x1b[2Jbye")
    assert (shown.stderr, "\x1b" in shown.stdout) == ("", False)
    page = desk.done("show", desk.chat, "--limit", "2")
    assert page.stderr == f"earlier: --before {desk.turns[1]}\n"
    assert len(page.stdout.splitlines()) == 3
    earlier = desk.done("show", desk.chat, "--before", desk.turns[1])
    assert [line.split()[1] for line in earlier.stdout.splitlines()[1:]] == [desk.turns[0]]
    assert earlier.stderr == ""


def test_shown_in_json_turns_have_their_payloads(desk: Desk):
    shown = desk.printed("show", desk.fork, "--limit", "2")
    assert [base64.b64decode(turn["payload"]) for turn in shown["items"]] == [LARGE, b"ask back"]
    assert (shown["before"], shown["items"][1]["type_version"]) == (desk.turns[1], 2)
    assert desk.printed("show", desk.chat)["before"] is None
    assert desk.printed("show", desk.chat, "--before", desk.turns[0]) == {"items": [], "before": None}


def test_a_fork_goes_on_from_a_turn(desk: Desk):
    said = desk.done("fork", desk.turns[0], "--label", "mine", "--label", "yours").stdout
    context = said.split()[1]
    assert said == f"context {context} goes on from turn {desk.turns[0]}, which is its number 1\n"
    (found,) = desk.printed("contexts", "--label", "yours")["items"]
    assert (found["context_id"], found["base_turn_id"], found["labels"]) == (context, desk.turns[0], ["mine", "yours"])
    made = desk.printed("fork", desk.turns[2])
    assert (made["head_turn_id"], made["head_depth"]) == (desk.turns[2], 3)
    empty = desk.printed("fork", "0")
    nothing = desk.done("show", empty["context_id"])
    assert (nothing.stdout, nothing.stderr) == ("", "no turns\n")


def test_two_contexts_are_compared(desk: Desk):
    lines = desk.done("diff", desk.chat, desk.fork).stdout.splitlines()
    assert lines[0] == f"they share 2 turns, the last of them {desk.turns[1]}"
    assert lines[1] == f"only in context {desk.chat}: 1"
    assert lines[3].split()[:2] == ["3", desk.turns[2]]
    assert lines[4] == f"only in context {desk.fork}: 1"
    assert lines[6].endswith("ask back")
    found = desk.printed("diff", desk.chat, desk.fork)
    assert found["common"]["turn_id"] == desk.turns[1]
    assert [len(found[side]) for side in ("ours", "theirs")] == [1, 1]
    same = desk.done("diff", desk.chat, desk.chat).stdout.splitlines()
    assert same[1:] == [f"only in context {desk.chat}: 0"] * 2
    empty = desk.printed("fork", "0")["context_id"]
    assert desk.done("diff", empty, desk.chat).stdout.splitlines()[0] == "they share no turn"
    assert desk.printed("diff", empty, desk.chat)["common"] is None


def test_an_exported_context_is_imported_again_from_a_file(desk: Desk, tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    written = desk.done("export", desk.chat, "--output", str(path))
    assert (written.stdout, written.stderr) == ("", f"3 turns of context {desk.chat} written\n")
    assert names_in(tmp_path) == ["chat.jsonl"]
    assert len(path.read_bytes().splitlines()) == 5
    result = desk.done("import", str(path))
    into = result.stdout.split()[1].removesuffix(":")
    assert result.stdout == f"context {into}: 3 turns appended, 0 were there already\n"
    assert result.stderr == f"into context {into}; if this is interrupted, go on with: --into {into}\n"
    shown, original = (desk.printed("show", one)["items"] for one in (into, desk.chat))
    for field in ("payload", "type_id", "type_version", "content_hash", "idempotency_key", "depth"):
        assert [turn[field] for turn in shown] == [turn[field] for turn in original]
    again = desk.printed("import", str(path), "--into", into)
    assert (again["appended"], again["replayed"], again["context"]["context_id"]) == (0, 3, into)
    assert again["context"]["labels"] == ["thread:7", "zwölf"]
    assert desk.number_of_contexts() == 3


def test_an_export_on_stdout_is_an_import_on_stdin(desk: Desk):
    exported = desk.done("export", desk.fork)
    assert exported.stderr == f"3 turns of context {desk.fork} written\n"
    done = desk.printed("import", "-", stdin=exported.stdout_bytes)
    assert (done["appended"], done["replayed"]) == (3, 0)
    assert done["context"]["head_depth"] == 3


def test_an_import_reads_a_pipe_to_its_end_first(desk: Desk, tmp_path: Path):
    lines = desk.done("export", desk.fork).stdout_bytes
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for whole in (True, False):
        writer = threading.Thread(target=pipe.write_bytes, args=(lines if whole else lines[:-10],))
        writer.start()
        if whole:
            assert desk.printed("import", str(pipe))["appended"] == 3
        else:
            assert isinstance(desk.refusal("import", str(pipe)), Corrupt)
        writer.join()
    assert desk.number_of_contexts() == 3


def test_an_export_into_a_pipe_or_a_device_leaves_it_one(desk: Desk, tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    desk.done("export", desk.fork, "-o", str(pipe))
    reader.join()
    assert received == [desk.done("export", desk.fork).stdout_bytes]
    assert pipe.is_fifo()
    assert names_in(tmp_path) == ["pipe"]


@pytest.mark.parametrize("stdin", [False, True])
def test_nothing_is_written_of_a_file_that_is_not_whole(desk: Desk, tmp_path: Path, *, stdin: bool):
    lines = desk.done("export", desk.chat).stdout_bytes.splitlines(keepends=True)
    wrong = {
        "torn": (b"".join(lines)[:-20], Corrupt),
        "without its end": (b"".join(lines[:-1]), Corrupt),
        "out of order": (b"".join([lines[0], lines[2], lines[1], *lines[3:]]), Corrupt),
        "changed": (b"".join(lines).replace(b'"acme.user"', b'"acme.usor"', 1), DigestMismatch),
        "twice": (b"".join(lines) * 2, Corrupt),
        "empty": (b"", Corrupt),
        "no text": (bytes(range(256)), Corrupt),
    }
    path = tmp_path / "wrong.jsonl"
    for content, error in list(wrong.values())[int(stdin) :: 2]:
        path.write_bytes(content)
        refused = desk.refusal("import", "-", stdin=content) if stdin else desk.refusal("import", str(path))
        assert isinstance(refused, error)
    assert desk.number_of_contexts() == 2


def test_a_line_that_is_too_long_is_refused_before_all_of_it_is_read(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "chat.jsonl"
    desk.done("export", desk.chat, "-o", str(path))
    monkeypatch.setattr("perdure.domain.turn_transfer.LINE_BYTES_MAX", 1_000)
    assert desk.refusal("import", str(path)).detail == {
        "limit": "line_bytes_max", "allowed": 1_000, "actual": 1_001,
    }  # fmt: skip


def test_a_file_is_there_only_when_all_of_it_is(desk: Desk, tmp_path: Path):
    path = tmp_path / "chat.jsonl"
    path.write_text("before")
    assert isinstance(desk.refusal("export", "99", "-o", str(path)), NotFound)
    assert (path.read_text(), names_in(tmp_path)) == ("before", ["chat.jsonl"])
    link = tmp_path / "link"
    link.symlink_to(path)
    desk.done("export", desk.chat, "-o", str(link))
    assert link.is_symlink()
    assert len(path.read_bytes().splitlines()) == 5
    for where in (tmp_path / "missing" / "chat.jsonl", tmp_path):
        refused = desk.refusal("export", desk.chat, "-o", str(where))
        assert isinstance(refused, NotFound)
        assert f"{where} cannot be written: " in refused.message
    assert names_in(tmp_path) == ["chat.jsonl", "link"]


def test_what_is_not_there_or_is_no_number_is_refused_with_advice(desk: Desk, tmp_path: Path):
    for refused in (
        desk.refusal("show", "99"),
        desk.refusal("fork", "99"),
        desk.refusal("diff", desk.chat, "99"),
        desk.refusal("export", "99"),
    ):
        assert isinstance(refused, NotFound)
        assert refused.detail["id"] == "99"
    for number in (desk.refusal("show", "nonsense"), desk.refusal("fork", "1.5"), desk.refusal("diff", "x", desk.chat)):
        assert isinstance(number, Invalid)
        assert "decimal digits" in number.message
    assert isinstance(desk.refusal("show", desk.chat, "--before", "99"), Invalid)
    missing = tmp_path / "missing.jsonl"
    assert desk.refusal("import", str(missing)).message == f"{missing} cannot be read: No such file or directory"
    path = tmp_path / "chat.jsonl"
    desk.done("export", desk.chat, "-o", str(path))
    assert isinstance(desk.refusal("import", str(path), "--into", "99"), NotFound)
    assert isinstance(desk.refusal("import", str(path), "--into", "x"), Invalid)
    assert desk.run("contexts", "--limit", "0").exit_code == 2
    assert desk.run("show", desk.chat, "--limit", "501").exit_code == 2
    assert desk.number_of_contexts() == 2
