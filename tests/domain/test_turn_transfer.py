"""Exported contexts as lines: whatever is torn, changed, missing, moved or added is seen, and keys stay apart."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.domain import turn_transfer
from perdure.domain.turn import KEY_BYTES_MAX, TURN_PAYLOAD_BYTES_MAX, TYPE_ID_CHARS_MAX, NewTurn, Turn, content_hash
from perdure.domain.turn_transfer import LINE_BYTES_MAX, TransferHead, TransferReader, TransferWriter
from perdure.errors import Corrupt, DigestMismatch, LegacyArtifact, LimitExceeded

WHEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def turn(
    depth: int,
    payload: bytes,
    *,
    key: str | None = None,
    turn_id: str | None = None,
    type_id: str = "acme.user",
) -> Turn:
    number = turn_id or str((7 << 24) + depth)
    return Turn(
        context_id="7",
        turn_id=number,
        parent_turn_id="0" if depth == 1 else str(int(number) - 1),
        depth=depth,
        type_id=type_id,
        type_version=2,
        payload=payload,
        content_hash=content_hash(payload),
        idempotency_key=key,
        recorded_at=WHEN,
    )


def lines_of(*turns: Turn, labels: tuple[str, ...] = ("run:7",)) -> list[bytes]:
    writer = TransferWriter()
    return [writer.head(context_id="7", labels=labels), *map(writer.turn, turns), writer.end()]


def three() -> list[bytes]:
    return lines_of(turn(1, b"one", key="k1"), turn(2, b"\x00\xff"), turn(3, b"", key="k3"))


def read_all(lines: list[bytes]) -> list[NewTurn | TransferHead | None]:
    reader = TransferReader()
    found = [reader.read(line) for line in lines]
    reader.finish()
    return found


def turns_in(lines: list[bytes]) -> list[NewTurn]:
    return [found for found in read_all(lines) if isinstance(found, NewTurn)]


def keys_in(*turns: Turn) -> list[str | None]:
    return [found.idempotency_key for found in turns_in(lines_of(*turns))]


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}, separators=(",", ":")).encode() + b"\n"


def test_what_was_written_is_read_again():
    head, one, two, last, end = read_all(three())
    assert head == TransferHead(context_id="7", labels=("run:7",))
    assert end is None
    assert one == NewTurn(type_id="acme.user", type_version=2, payload=b"one", idempotency_key="k1")
    assert isinstance(two, NewTurn)
    assert (two.payload, two.idempotency_key) == (b"\x00\xff", f"import:7:{(7 << 24) + 2}")
    assert isinstance(last, NewTurn)
    assert (last.payload, last.idempotency_key, last.parent_turn_id) == (b"", "k3", None)


def test_a_context_without_turns_is_a_first_and_a_last_line():
    lines = lines_of(labels=())
    assert len(lines) == 2
    assert read_all(lines) == [TransferHead(context_id="7", labels=()), None]


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_every_changed_byte_is_seen(mask: int):
    whole = b"".join(three())
    for position in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= mask
        with pytest.raises(Corrupt):
            read_all(bytes(damaged).splitlines(keepends=True))


def test_every_file_that_is_torn_is_seen():
    whole = b"".join(three())
    for size in range(len(whole) - 1):  # of the last byte, which ends the last line, nothing depends
        with pytest.raises(Corrupt):
            read_all(whole[:size].splitlines(keepends=True))
    assert len(turns_in(whole[:-1].splitlines(keepends=True))) == 3


@pytest.mark.parametrize("missing", range(5))
def test_a_missing_line_is_seen(missing: int):
    lines = three()
    del lines[missing]
    with pytest.raises(Corrupt):
        read_all(lines)


def test_a_file_without_its_last_line_says_how_far_it_goes():
    with pytest.raises(Corrupt, match="ends after 3 turns, without its last line"):
        read_all(three()[:-1])
    with pytest.raises(Corrupt, match="ends after 0 turns"):
        read_all([])


def test_a_line_out_of_order_is_refused_before_it_is_handed_on():
    head, one, two, last, end = three()
    reader = TransferReader()
    reader.read(head)
    reader.read(one)
    with pytest.raises(Corrupt, match="line 3 has turn number 3, and number 2 is expected"):
        reader.read(last)
    with pytest.raises(Corrupt):
        read_all([head, one, one, two, last, end])
    with pytest.raises(Corrupt):
        read_all([one, head, two, last, end])


def test_something_after_the_end_is_refused_with_its_number():
    for more in (b"\n", three()[1], three()[-1]):
        with pytest.raises(Corrupt, match="line 6: there is something after the end"):
            read_all([*three(), more])


def test_a_turn_from_another_file_is_seen_at_the_end():
    lines = three()
    lines[2] = lines_of(turn(1, b"one"), turn(2, b"other"))[2]
    with pytest.raises(DigestMismatch, match="not those that its last line tells of"):
        read_all(lines)


def test_a_last_line_that_counts_otherwise_is_refused():
    lines = three()
    for fields in ({"turns": 4}, {"end": False}, {"digest": "0" * 64}):
        with pytest.raises(DigestMismatch):
            read_all([*lines[:-1], changed(lines[-1], **fields)])


def test_a_changed_payload_is_named_by_its_line():
    lines = three()
    lines[2] = changed(lines[2], payload=base64.b64encode(b"other").decode())
    with pytest.raises(DigestMismatch, match="line 3"):
        read_all(lines)


@pytest.mark.parametrize("payload", ["?", "b25", "öäü"])
def test_a_payload_that_is_not_base64_is_refused(payload: str):
    lines = three()
    lines[1] = changed(lines[1], payload=payload)
    with pytest.raises(Corrupt, match="line 2 is not base64"):
        read_all(lines)


def test_another_version_is_of_another_release_and_another_format_is_no_export():
    head = three()[0]
    with pytest.raises(LegacyArtifact, match="perdure-turns 2; this release reads 1"):
        TransferReader().read(changed(head, version=2))
    with pytest.raises(Corrupt, match="not perdure-turns"):
        TransferReader().read(changed(head, format="other\x1b[2J"))
    for line in (b"", b"\n", b"{}", b"[1]", b"\xff", b"PK\x03\x04"):
        with pytest.raises(Corrupt, match="line 1 is not one of an exported context"):
            TransferReader().read(line)


@pytest.mark.parametrize("fields", [{"type_id": ""}, {"type_version": -1}, {"idempotency_key": ""}, {"turn_id": "x"}])
def test_a_line_that_holds_no_turn_is_refused(fields: dict[str, Any]):
    head, line, *_ = three()
    reader = TransferReader()
    reader.read(head)
    with pytest.raises(Corrupt, match="line 2"):
        reader.read(changed(line, **fields))
    with pytest.raises(Corrupt, match="line 1"):
        TransferReader().read(changed(head, context_id="../1"))


def test_fields_that_a_later_release_adds_are_passed_over():
    writer = TransferWriter()
    head = changed(writer.head(context_id="7", labels=()), later=1)
    assert TransferReader().read(head) == TransferHead(context_id="7", labels=())


def test_a_key_that_comes_twice_in_a_history_is_given_to_one_turn_only():
    """A fork's history is of several contexts, in each of which the same key may be another turn."""
    keys = keys_in(turn(1, b"a", key="k"), turn(2, b"a", key="k", turn_id="99"), turn(3, b"b", key="k", turn_id="98"))
    assert keys == ["k", "import:7:99", "import:7:98"]


def test_a_key_that_was_made_never_meets_one_that_was_kept():
    kept = "import:7:99"
    assert keys_in(turn(1, b"a", key=kept), turn(2, b"a", turn_id="99")) == [kept, f"{kept}:1"]
    assert keys_in(turn(1, b"a", turn_id="99"), turn(2, b"a", key=kept, turn_id="98")) == [kept, "import:7:98"]


def test_keys_are_the_same_whenever_a_file_is_read():
    turns = [turn(n, b"x", key=None if n % 2 else "k") for n in range(1, 9)]
    assert keys_in(*turns) == keys_in(*turns)
    assert len(set(keys_in(*turns))) == len(turns)


def test_a_line_at_the_limit_is_read_and_one_above_it_is_not(monkeypatch: pytest.MonkeyPatch):
    lines = three()
    longest = max(map(len, lines))
    monkeypatch.setattr(turn_transfer, "LINE_BYTES_MAX", longest)
    assert len(turns_in(lines)) == 3
    monkeypatch.setattr(turn_transfer, "LINE_BYTES_MAX", longest - 1)
    with pytest.raises(LimitExceeded, match="line_bytes_max") as caught:
        read_all(lines)
    assert caught.value.detail == {"limit": "line_bytes_max", "allowed": longest - 1, "actual": longest}


def test_the_largest_turn_is_within_the_limit_of_a_line():
    largest = turn(1, b"", key="\x01" * KEY_BYTES_MAX, type_id="\U0010ffff" * TYPE_ID_CHARS_MAX)
    rest = len(lines_of(largest)[1])
    assert rest + -(-TURN_PAYLOAD_BYTES_MAX // 3) * 4 < LINE_BYTES_MAX
