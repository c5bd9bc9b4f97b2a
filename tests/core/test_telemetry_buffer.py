"""What a buffer of telemetry promises whoever records: bounds, priorities, snapshots, and numbers that add up."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from perdure.core.telemetry_buffer import TelemetryBuffer
from perdure.domain.telemetry import ENTRY_BYTES_MAX, ID_CHARS_MAX, LogType, TelemetryEntry
from perdure.errors import Invalid, LimitExceeded
from tests.support.telemetry import CLOCK, IDS, entry_of

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]


def leased(buffer: TelemetryBuffer, count: int = 100) -> list[Any]:
    lease = buffer.lease(count)
    buffer.ack(lease, lease.held)
    return [held.entry.event_details for held in lease.held]


class Watched:
    """Details that are no JSON, and count how often somebody looks at them."""

    looks = 0

    @property  # type: ignore[misc]  # what is asked of an object that an encoder does not know
    def __class__(self) -> Any:
        Watched.looks += 1
        return type(self)


def test_r75_at_capacity_it_returns_false_at_once_and_counts_it() -> None:
    buffer = TelemetryBuffer(entries_max=3)
    assert [buffer.record(entry_of(number)) for number in range(5)] == [True, True, True, False, False]
    before = Watched.looks
    assert buffer.record(entry_of(Watched())) is False
    assert Watched.looks == before, "what is refused is not even looked at"
    stats = buffer.stats()
    assert (stats.accepted, stats.pending, stats.refused, stats.refused_in_all) == (3, 3, {"full": 3}, 3)
    assert (stats.high_water, stats.utilisation, stats.is_balanced) == (3, 1.0, True)
    assert leased(buffer) == [0, 1, 2]


def test_it_holds_as_many_bytes_as_it_may_and_not_one_entry_more() -> None:
    buffer = TelemetryBuffer(bytes_max=3_000)
    sizes = [buffer.record(entry_of("x" * 998)) for _ in range(3)]
    assert sizes == [True, False, False]
    assert buffer.stats().refused == {"full_bytes": 2}
    assert buffer.stats().held_bytes <= 3_000
    assert leased(buffer) != []
    assert buffer.record(entry_of("x" * 998))


def test_what_is_urgent_comes_first_and_each_kind_in_its_order() -> None:
    buffer = TelemetryBuffer()
    types = [LogType.TELEMETRY, LogType.ERROR, LogType.INTERACTION, LogType.GUARDIAN_DECISION, LogType.ERROR]
    for number, log_type in enumerate(types):
        buffer.record(entry_of(number, log_type=log_type))
    assert leased(buffer, 2) == [1, 3]
    assert leased(buffer) == [4, 0, 2]


def test_what_is_urgent_takes_the_place_of_the_newest_that_is_not() -> None:
    buffer = TelemetryBuffer(entries_max=3)
    for number in range(3):
        buffer.record(entry_of(number))
    assert buffer.record(entry_of("e1", log_type=LogType.ERROR))
    assert buffer.record(entry_of("e2", log_type=LogType.GUARDIAN_DECISION))
    assert buffer.record(entry_of("e3", log_type=LogType.ERROR))
    assert buffer.record(entry_of("e4", log_type=LogType.ERROR)) is False
    stats = buffer.stats()
    assert (stats.accepted, stats.dropped, stats.refused) == (6, {"displaced": 3}, {"full": 1})
    assert stats.is_balanced
    assert leased(buffer) == ["e1", "e2", "e3"]


def test_room_for_a_large_urgent_entry_is_made_only_if_that_is_enough() -> None:
    buffer = TelemetryBuffer(bytes_max=4_000)
    for number in range(5):
        buffer.record(entry_of(number))
    assert buffer.record(entry_of("x" * 2_000, log_type=LogType.ERROR))
    assert buffer.stats().dropped == {"displaced": 3}
    assert buffer.record(entry_of("x" * 3_000, log_type=LogType.ERROR)) is False
    assert (buffer.stats().pending, buffer.stats().is_balanced) == (3, True)


def test_r79_what_happens_to_the_details_later_is_not_seen() -> None:
    buffer, shared = TelemetryBuffer(), {"list": [1], "deep": {"a": "b"}}
    buffer.record(entry_of(shared))
    shared["list"].append(2)  # type: ignore[attr-defined]
    shared["deep"] = "gone"
    (held,) = buffer.lease(1).held
    assert held.details == b'{"list":[1],"deep":{"a":"b"}}'


def _cyclic() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    return cycle


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("details", "kept"),
    [
        (object(), b'{"__unserialisable__":"object"}'),
        ({"good": 1, "bad": Hostile()}, b'{"good":1,"bad":{"__unserialisable__":"Hostile"}}'),
        ({"big": 2**80, 7: "good"}, b'{"big":1208925819614629174706176,"7":"good"}'),
        ({"half": "a\ud800b"}, b'{"half":"a?b"}'),
        ({(1, 2): "key"}, b'{"tuple:(1, 2)":"key"}'),
        ({Hostile(): 1}, b'{"__unserialisable__":"RuntimeError"}'),
        (float("nan"), b"null"),
    ],
)
def test_r83_what_is_no_json_is_replaced_by_a_marker_and_nobody_hears_of_it(details: Any, kept: bytes) -> None:
    buffer = TelemetryBuffer()
    assert buffer.record(entry_of(details)) is True
    assert buffer.lease(1).held[0].details == kept


def test_r83_a_cycle_ends_in_a_marker() -> None:
    buffer = TelemetryBuffer()
    assert buffer.record(entry_of(_cyclic()))
    details = buffer.lease(1).held[0].details
    assert details is not None
    assert b'{"__unserialisable__":"dict"}' in details


def test_what_is_no_entry_at_all_is_refused_and_nothing_is_raised() -> None:
    buffer = TelemetryBuffer()
    assert buffer.record("text") is False  # type: ignore[arg-type]  # wrong on purpose
    assert buffer.stats().refused == {"invalid": 1}


def test_an_entry_is_checked_when_it_is_made() -> None:
    def made(**fields: Any) -> TelemetryEntry:
        return TelemetryEntry(**{"entry_id": IDS.new(), "instance_id": "i", "timestamp": CLOCK.now(), **fields})

    assert made(unit_id="u" * ID_CHARS_MAX, log_type="ERROR").log_type is LogType.ERROR
    for wrong in (
        {"instance_id": ""},
        {"unit_id": 7},
        {"log_type": "NOISE"},
        {"actor_id": "a\0b"},
        {"role_id": "\ud800"},
    ):
        with pytest.raises(Invalid):
            made(**wrong)
    with pytest.raises(Invalid, match="time zone"):
        made(timestamp=CLOCK.now().replace(tzinfo=None))
    with pytest.raises(LimitExceeded, match="id_chars_max"):
        made(unit_id="u" * (ID_CHARS_MAX + 1))


def test_r84_an_entry_is_cut_to_its_cap_and_keeps_what_is_small() -> None:
    buffer = TelemetryBuffer()
    edge = "x" * (ENTRY_BYTES_MAX - 2)
    for details in (edge, edge + "x", {"name": "router", "variables": {"all": edge}, "count": 3}):
        assert buffer.record(entry_of(details))
    at_edge, above, mapping = (held.details or b"" for held in buffer.lease(3).held)
    assert len(at_edge) == ENTRY_BYTES_MAX
    assert above == b'{"__oversized__":%d}' % (ENTRY_BYTES_MAX + 1)
    assert mapping == b'{"name":"router","variables":{"__oversized__":%d},"count":3}' % (ENTRY_BYTES_MAX + 8)
    assert buffer.stats().oversized == 2


def test_a_requeued_lease_is_the_next_again_in_its_order() -> None:
    buffer = TelemetryBuffer()
    for number in range(4):
        buffer.record(entry_of(number, log_type=LogType.ERROR if number == 2 else LogType.TELEMETRY))
    lease = buffer.lease(3)
    buffer.record(entry_of("later"))
    buffer.requeue(lease, lease.held)
    stats = buffer.stats()
    assert (stats.pending, stats.in_flight, stats.retried, stats.is_balanced) == (5, 0, 3, True)
    assert leased(buffer) == [2, 0, 1, 3, "later"]


def test_what_is_in_flight_still_counts_against_the_bound() -> None:
    buffer = TelemetryBuffer(entries_max=2)
    buffer.record(entry_of(0))
    buffer.record(entry_of(1))
    lease = buffer.lease(2)
    assert (buffer.record(entry_of(2)), buffer.stats().utilisation) == (False, 1.0)
    buffer.requeue(lease, lease.held)
    assert leased(buffer) == [0, 1]


def test_a_batch_that_is_full_wakes_the_flusher_once() -> None:
    buffer, woken = TelemetryBuffer(batch_entries=3), []
    buffer.wake_with(lambda: woken.append(buffer.pending))
    for number in range(7):
        buffer.record(entry_of(number))
    assert woken == [3]


def test_a_closed_buffer_takes_nothing_and_keeps_what_it_has() -> None:
    buffer = TelemetryBuffer()
    buffer.record(entry_of(1))
    buffer.close()
    assert (buffer.record(entry_of(2)), buffer.stats().refused, leased(buffer)) == (False, {"closed": 1}, [1])


def test_r81_the_numbers_add_up_whenever_anybody_looks() -> None:
    buffer, ended = TelemetryBuffer(entries_max=500), threading.Event()
    unbalanced: list[object] = []
    told = [0] * 16

    def produce(producer: int) -> None:
        for number in range(400):
            log_type = LogType.ERROR if number % 7 == 0 else LogType.TELEMETRY
            told[producer] += buffer.record(entry_of(number, log_type=log_type))

    def settle() -> None:
        turn = 0
        while not ended.is_set() or buffer.pending:
            lease = buffer.lease(37)
            half = len(lease.held) // 2
            (buffer.ack, buffer.bury, buffer.requeue)[turn % 3](lease, lease.held[:half])
            (buffer.requeue, buffer.ack)[turn % 2](lease, lease.held[half:])
            turn += 1
            stats = buffer.stats()
            if not stats.is_balanced:
                unbalanced.append(stats)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(16)]
    settler = threading.Thread(target=settle)
    for thread in (*threads, settler):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    settler.join()
    stats = buffer.stats()
    assert unbalanced == []
    assert (stats.accepted, stats.pending, stats.in_flight) == (sum(told), 0, 0)
    assert stats.accepted + stats.refused_in_all == 16 * 400


FORKING = """
import os
from perdure.core.telemetry_buffer import TelemetryBuffer
from tests.support.telemetry import entry_of

buffer = TelemetryBuffer()
for number in range(3):
    assert buffer.record(entry_of(number))
lease = buffer.lease(1)
with buffer._lock:  # as when another thread records at the moment of the fork
    child = os.fork()
if child == 0:
    empty = buffer.stats().accepted == 0
    buffer.ack(lease, lease.held)  # the parent's
    fine = empty and buffer.record(entry_of("child")) and buffer.pending == 1 and buffer.stats().is_balanced
    os._exit(0 if fine else 1)
assert os.waitpid(child, 0)[1] == 0, "the child's buffer is not a new one"
buffer.ack(lease, lease.held)
stats = buffer.stats()
print(stats.accepted, stats.flushed, [held.entry.event_details for held in buffer.lease(9).held])
"""


def test_a_child_begins_empty_with_a_lock_of_its_own_and_the_parent_keeps_everything() -> None:
    run = subprocess.run([sys.executable, "-c", FORKING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("3 1 [1, 2]\n", "")


IN_A_HANDLER = """
import signal
from perdure.core.telemetry_buffer import TelemetryBuffer
from tests.support.telemetry import entry_of

buffer, inside = TelemetryBuffer(entries_max=1_000_000), []

def record(*_):
    inside.append(buffer.record(entry_of("handler")))

signal.signal(signal.SIGALRM, record)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
entry, outside = entry_of("loop"), 0
while len(inside) < 200:
    outside += buffer.record(entry)
signal.setitimer(signal.ITIMER_REAL, 0)
stats = buffer.stats()
print(stats.is_balanced and stats.accepted == stats.pending == sum(inside) + outside)
"""


def test_the_handler_of_a_signal_may_record_in_the_midst_of_recording() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_HANDLER], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
