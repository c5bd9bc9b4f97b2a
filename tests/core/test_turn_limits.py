"""The limits of turns that are far away: the numbers of a context and of a space, and bytes by the hundred million."""

from __future__ import annotations

from typing import Final

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.core.turn_chain import encode_attributes
from perdure.core.turn_contexts import NUMBERS_BLOCK
from perdure.core.turn_entries import Place, to_entry
from perdure.core.turn_store import PAGE_PAYLOAD_BYTES_MAX, StoredTurns, TurnParts
from perdure.domain.container import Space
from perdure.domain.log import Entry, LogHead, LogSettings
from perdure.domain.turn import (
    CONTEXT_NUMBER_MAX,
    TURN_PAYLOAD_BYTES_MAX,
    TURNS_MAX,
    context_container,
    make_turn_id,
    numbers_container,
)
from perdure.domain.versioned import PutRow
from perdure.errors import LimitExceeded
from perdure.testing.contracts.stores import TIMEOUT_S, new_space
from perdure.testing.contracts.turns_opening import Talk, turn
from perdure.testing.environment import START_DEFAULT, fake_environment
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

FIRST: Final = TURNS_MAX - 1


@pytest.fixture
async def backend() -> DocumentBackend:
    driver = MemoryDriver()
    await driver.open()
    return DocumentBackend(driver, mode="lab", env="dev", environment=fake_environment(), sleep=no_sleep)


@pytest.fixture
def talk(backend: DocumentBackend) -> Talk:
    parts = TurnParts(backend.logs, backend.rows, environment=fake_environment(), sleep=no_sleep)
    return Talk(store=StoredTurns(parts, BlobsInMemory()), space=new_space())


async def restore_nearly_full(backend: DocumentBackend, space: Space, number: int) -> None:
    """Write a context that has had all the turns that it may have but one, as copying would, without the others."""
    place = Place(number=number, position=FIRST, anchor=FIRST, entered=0, depth=1)
    new = to_entry(turn(b"last but one", key="k"), place, entry_id="e", inline=True)
    entry = Entry(
        sequence=FIRST, entry_id=new.entry_id, fingerprint=new.fingerprint, recorded_at=START_DEFAULT, body=new.body
    )
    head = LogHead(
        epoch=1,
        sequence=FIRST,
        earliest=FIRST,
        version=1,
        created_at=START_DEFAULT,
        updated_at=START_DEFAULT,
        settings=LogSettings(attributes=encode_attributes(base=0, base_depth=0, labels=())),
    )
    await backend.logs.restore(context_container(space, number), head, [entry], timeout_s=TIMEOUT_S)


async def test_a_context_that_is_full_takes_no_turn_and_is_forked(backend: DocumentBackend, talk: Talk) -> None:
    await restore_nearly_full(backend, talk.space, 7)
    last = await talk.add("7", turn(b"last", key="last"))
    assert last.turn_id == str(make_turn_id(7, TURNS_MAX))
    with pytest.raises(LimitExceeded) as caught:
        await talk.say("7", "one more")
    detail = caught.value.detail
    assert (detail["limit"], detail["allowed"], detail["actual"]) == ("turns_max", TURNS_MAX, TURNS_MAX + 1)
    assert await talk.said("7", limit=2) == ["last but one", "last"]
    # What it has is still answered for, and a fork goes on.
    assert (await talk.add("7", turn(b"last", key="last"))).turn_id == last.turn_id
    fork = await talk.begin(last.turn_id)
    await talk.say(fork, "forked")
    assert await talk.said(fork, limit=3) == ["last but one", "last", "forked"]


async def test_a_space_gives_its_last_number_and_no_other(backend: DocumentBackend, talk: Talk) -> None:
    first = CONTEXT_NUMBER_MAX - NUMBERS_BLOCK
    put = PutRow(key="next", value=str(first).encode())
    await backend.rows.write(numbers_container(talk.space), [put], timeout_s=TIMEOUT_S)
    made = [await talk.begin() for _ in range(NUMBERS_BLOCK)]
    assert made == [str(number) for number in range(first, CONTEXT_NUMBER_MAX)]
    turn_id = await talk.say(made[-1], "1")
    assert int(turn_id) < 2**63
    assert await talk.said(made[-1]) == ["1"]
    with pytest.raises(LimitExceeded) as caught:
        await talk.begin()
    assert caught.value.detail["limit"] == "context_number_max"


async def test_the_largest_payload_is_kept_and_a_page_of_too_many_is_refused(talk: Talk) -> None:
    context_id = await talk.begin()
    payload = bytes(TURN_PAYLOAD_BYTES_MAX)
    fitting = PAGE_PAYLOAD_BYTES_MAX // TURN_PAYLOAD_BYTES_MAX
    ids = [(await talk.add(context_id, turn(payload))).turn_id for _ in range(fitting + 1)]
    assert len((await talk.get(ids[0])).payload) == TURN_PAYLOAD_BYTES_MAX
    assert [found.turn_id for found in await talk.page(context_id, limit=fitting)] == ids[1:]
    with pytest.raises(LimitExceeded) as caught:
        await talk.page(context_id)
    detail = caught.value.detail
    assert (detail["limit"], detail["allowed"]) == ("page_payload_bytes_max", PAGE_PAYLOAD_BYTES_MAX)
    assert detail["actual"] == (fitting + 1) * TURN_PAYLOAD_BYTES_MAX
