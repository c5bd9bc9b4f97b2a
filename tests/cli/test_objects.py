"""``perdure objects``: bytes go in from files and pipes, are listed, and come out whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.domain.object import OBJECTS_PAGE_MAX, READ_CHUNK_BYTES_MAX, object_digest
from perdure.errors import DigestMismatch, Invalid, NotFound, PerdureError
from tests.support.databases import Database

ABSENT = "0" * 64
LARGE = bytes(range(256)) * 4_096 + b"more than a chunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Somebody at the keyboard."""

    database: Database

    def run(self, *words: str, stdin: bytes | None = None) -> Result:
        """``perdure objects`` with these words."""
        where = ["--dsn", self.database.direct_dsn("app"), "--mode", "lab", "--env", "dev", "--tenant", "t_acme"]
        return CliRunner().invoke(app, ["objects", *words, *where], input=stdin)

    def done(self, *words: str, stdin: bytes | None = None) -> Result:
        """A command that succeeds."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return result

    def put(self, content: bytes, *words: str) -> str:
        """Put what comes through a pipe; its address."""
        return self.done("put", "-", *words, stdin=content).stdout.strip()

    def printed(self, *words: str, stdin: bytes | None = None) -> Any:
        """The JSON document that it prints."""
        return json.loads(self.done(*words, "--json", stdin=stdin).stdout)

    def refusal(self, *words: str) -> PerdureError:
        """The error with which a command is refused."""
        result = self.run(*words)
        assert isinstance(result.exception, PerdureError), f"{result.output} {result.exception!r}"
        return result.exception


@pytest.fixture
def desk(database: Database) -> Desk:
    added = CliRunner().invoke(app, ["tenants", "add", "t_acme", "--dsn", database.direct_dsn("owner")])
    assert added.exit_code == 0, added.output
    return Desk(database=database)


def test_what_is_put_is_got_again_by_its_address(desk: Desk, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    assert len(LARGE) > READ_CHUNK_BYTES_MAX
    put = desk.done("put", str(path))
    assert (put.stdout, put.stderr) == (f"{object_digest(LARGE)}\n", "")
    assert desk.done("get", object_digest(LARGE)).stdout_bytes == LARGE
    copied = tmp_path / "copy"
    got = desk.done("get", object_digest(LARGE), "--output", str(copied))
    assert (got.output, copied.read_bytes()) == ("", LARGE)
    assert sorted(tmp_path.iterdir()) == [copied, path]


def test_what_comes_through_a_pipe_is_the_same_object(desk: Desk, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.touch()
    assert desk.put(LARGE) == object_digest(LARGE)
    assert desk.put(b"") == object_digest(b"")
    assert desk.done("put", str(empty)).stdout.strip() == object_digest(b"")
    assert desk.done("get", object_digest(b"")).stdout_bytes == b""
    ref = desk.printed("put", "-", "--media-type", "text/plain", stdin=b"hello")
    assert ref.items() >= {"digest": object_digest(b"hello"), "size_bytes": 5, "media_type": "text/plain"}.items()
    assert len(desk.printed("ls")["items"]) == 3


def test_objects_are_listed_page_by_page_in_the_order_of_their_addresses(desk: Desk):
    nothing = desk.done("ls")
    assert (nothing.stdout, nothing.stderr) == ("", "no objects\n")
    made = sorted([desk.put(b"a"), desk.put(b"bc", "--media-type", "text/plain"), desk.put(b"d")])
    table = desk.done("ls").stdout.splitlines()
    assert table[0].split() == ["ADDRESS", "BYTES", "MEDIA", "TYPE", "PUT"]
    assert [line.split()[0] for line in table[1:]] == made
    (said,) = [line.split()[:3] for line in table if line.startswith(object_digest(b"bc"))]
    assert said[1:] == ["2", "text/plain"]
    first = desk.printed("ls", "--limit", "2")
    second = desk.printed("ls", "--limit", "2", "--cursor", first["next_cursor"])
    assert [one["digest"] for one in first["items"] + second["items"]] == made
    assert second["next_cursor"] is None
    assert desk.done("ls", "--limit", "2").stderr == f"more: --cursor {made[1]}\n"
    assert desk.run("ls", "--limit", str(OBJECTS_PAGE_MAX + 1)).exit_code == 2


def test_what_is_not_there_or_no_address_is_refused_and_leaves_no_file(desk: Desk, tmp_path: Path):
    path = tmp_path / "copy"
    path.write_text("before")
    absent = desk.refusal("get", ABSENT, "-o", str(path))
    assert isinstance(absent, NotFound)
    assert ABSENT in absent.message
    for refused in (desk.refusal("get", "nonsense", "-o", str(path)), desk.refusal("ls", "--cursor", "nonsense")):
        assert isinstance(refused, Invalid)
    missing = tmp_path / "missing"
    assert desk.refusal("put", str(missing)).message == f"{missing} cannot be read: No such file or directory"
    assert isinstance(desk.refusal("put", str(path), "--media-type", "nonsense"), Invalid)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("before", [path])
    assert desk.printed("ls")["items"] == []


def test_a_damaged_object_leaves_no_file(desk: Desk, tmp_path: Path):
    digest = desk.put(LARGE)
    desk.database.query("ALTER TABLE perdure.object_chunks DISABLE TRIGGER append_only")
    desk.database.query(
        "UPDATE perdure.object_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) WHERE chunk_no ="
        " (SELECT max(chunk_no) FROM perdure.object_chunks)"
    )
    desk.database.query("ALTER TABLE perdure.object_chunks ENABLE TRIGGER append_only")
    path = tmp_path / "copy"
    assert isinstance(desk.refusal("get", digest, "-o", str(path)), DigestMismatch)
    assert list(tmp_path.iterdir()) == []
    desk.put(LARGE)
    desk.done("get", digest, "-o", str(path))
    assert path.read_bytes() == LARGE


def test_an_object_cannot_be_written_where_no_file_can_be(desk: Desk, tmp_path: Path):
    digest = desk.put(b"hello")
    for where in (tmp_path / "missing" / "copy", tmp_path):
        refused = desk.refusal("get", digest, "-o", str(where))
        assert isinstance(refused, NotFound)
        assert f"{where} cannot be written: " in refused.message
    assert list(tmp_path.iterdir()) == []
