"""What several clients of one driver's data may rely on, at the same time and one after another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from perdure.errors import BackendDown, OutcomeUnknown, PerdureError
from perdure.ports.documents import DocumentDriver, Expect, ExpectationFailed, Remove, Require
from perdure.testing.contracts.documents_opening import (
    TIMEOUT_S,
    DocumentsContract,
    OpenAnother,
    Shelf,
    must_be,
    new_id,
    put,
    text,
)

RIVALS = 8


class DocumentClientsContract(DocumentsContract):
    """Races, reads after writes, and the life of a driver."""

    async def rivals(self, shelf: Shelf, open_another: OpenAnother) -> Sequence[Shelf]:
        """The same partition in many hands: of several clients, where there may be several."""
        if not shelf.driver.capabilities.shared:
            return [shelf] * RIVALS
        other = shelf.seen_by(await open_another())
        return [shelf, other] * (RIVALS // 2)

    @pytest.mark.parametrize("expect", [1, Expect.ABSENT])
    async def test_of_all_that_expect_the_same_one_wins(
        self, shelf: Shelf, open_another: OpenAnother, expect: Expect | int
    ) -> None:
        rivals = await self.rivals(shelf, open_another)
        for race in range(4):
            sort = f"k{race}"
            if expect == 1:
                await shelf.commit(put(sort, 1))
            ids = [new_id() for _ in rivals]
            won = await asyncio.gather(
                *(
                    rival.wins(put(sort, 2, b"%d" % number, expect=expect), commit_id=commit_id)
                    for number, (rival, commit_id) in enumerate(zip(rivals, ids, strict=True))
                )
            )
            assert won.count(True) == 1
            winner = won.index(True)
            for rival in rivals[:2] if shelf.driver.capabilities.consistency == "strong" else [rivals[winner]]:
                document = await rival.one(sort)
                assert (document.body, document.commit_id) == (b"%d" % winner, ids[winner])

    async def test_of_all_that_expect_the_same_token_one_wins(self, shelf: Shelf, open_another: OpenAnother) -> None:
        await shelf.commit(put("a", 1))
        rivals = await self.rivals(shelf, open_another)
        token = (await shelf.one("a")).token
        won = await asyncio.gather(*(rival.wins(put("a", 2, expect=1, token=token)) for rival in rivals))
        assert won.count(True) == 1

    async def test_removing_and_replacing_the_same_version_is_one_or_the_other(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        await shelf.commit(put("a", 1))
        rivals = await self.rivals(shelf, open_another)
        writes = [Remove(sort="a", expect=1) if number % 2 else put("a", 2, expect=1) for number in range(RIVALS)]
        won = await asyncio.gather(*(rival.wins(write) for rival, write in zip(rivals, writes, strict=True)))
        assert won.count(True) == 1
        winner = won.index(True)
        assert bool(await rivals[winner].get("a")) == (winner % 2 == 0)

    async def test_commits_that_cross_are_whole(self, shelf: Shelf, open_another: OpenAnother) -> None:
        rivals = await self.rivals(shelf, open_another)
        sorts = [f"k{number}" for number in range(10)]
        won = await asyncio.gather(
            *(
                # Half of them the other way round: what locks in the order it was given would wait for itself.
                rival.wins(*(put(sort, 1, b"%d" % number, expect=Expect.ABSENT) for sort in sorts[:: (-1) ** number]))
                for number, rival in enumerate(rivals)
            )
        )
        assert won.count(True) == 1
        winner = won.index(True)
        assert [document.body for document in await rivals[winner].all()] == [b"%d" % winner] * len(sorts)

    async def test_appends_number_without_gaps_whoever_makes_them(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        await shelf.commit(put("head", 0))
        rivals = await self.rivals(shelf, open_another)
        numbers = await asyncio.gather(*(append(rival, count=3) for rival in rivals))
        assert sorted(number for some in numbers for number in some) == list(range(1, RIVALS * 3 + 1))
        for some, rival in zip(numbers[:2], rivals[:2], strict=True):
            assert some == sorted(some)
            assert await rival.sorts("item-", "item-~") == [f"item-{number:04}" for number in range(1, RIVALS * 3 + 1)]

    async def test_requirements_of_the_same_document_do_not_fail_each_other(
        self, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        await shelf.commit(put("stands", 1))
        rivals = await self.rivals(shelf, open_another)
        won = await asyncio.gather(
            *(
                rival.wins(Require(sort="stands"), put(f"k{number}", expect=Expect.ABSENT))
                for number, rival in enumerate(rivals)
            )
        )
        assert won == [True] * RIVALS
        assert (await shelf.one("stands")).version == 1

    async def test_a_client_reads_what_it_wrote(self, shelf: Shelf) -> None:
        for version in range(1, 21):
            await shelf.commit(put("a", version))
            assert (await shelf.one("a")).version == version
            assert [document.version for document in await shelf.all()] == [version]

    async def test_a_client_reads_what_another_was_acknowledged(
        self, driver: DocumentDriver, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        must_be(driver.capabilities.shared, "shared")
        must_be(driver.capabilities.consistency == "strong", "strongly consistent")
        other = shelf.seen_by(await open_another())
        for version in range(1, 21):
            writer, reader = (shelf, other) if version % 2 else (other, shelf)
            await writer.commit(put("a", version, expect=Expect.ANY if version == 1 else version - 1))
            assert (await reader.one("a")).version == version
            assert [document.version for document in await reader.all()] == [version]
        await shelf.commit(Remove(sort="a", expect=20))
        assert await other.get("a") == {}

    async def test_a_token_of_one_client_is_good_for_another(
        self, driver: DocumentDriver, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        must_be(driver.capabilities.shared, "shared")
        (token,) = await shelf.commit(put("a", 1))
        other = shelf.seen_by(await open_another())
        (token,) = await other.commit(put("a", 2, expect=1, token=token))
        await shelf.commit(put("a", 3, expect=2, token=token))
        assert (await shelf.one("a")).version == 3

    async def test_what_was_acknowledged_is_there_after_opening_again(
        self, driver: DocumentDriver, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        must_be(driver.capabilities.durable, "durable")
        sorts = [f"k{number:03}" for number in range(150)]
        await shelf.fill(*sorts)
        await shelf.commit(put("k000", 2, text(300_000), expect=1), Remove(sort="k001", expect=1))
        before = await shelf.all()
        await driver.close()
        again = shelf.seen_by(await open_another())
        assert await again.all() == before
        (token,) = await again.commit(put("k000", 3, expect=2))
        await again.commit(put("k000", 4, expect=3, token=token))

    async def test_closing_finishes_what_is_under_way(
        self, driver: DocumentDriver, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        must_be(driver.capabilities.durable, "durable")
        commits = [asyncio.create_task(outcome(shelf, f"k{number}")) for number in range(RIVALS)]
        await asyncio.sleep(0)
        await driver.close()
        outcomes = await asyncio.gather(*commits)
        again = shelf.seen_by(await open_another())
        sorts = await again.sorts()
        for number, told in enumerate(outcomes):
            assert told is None or isinstance(told, BackendDown | OutcomeUnknown)
            if not isinstance(told, OutcomeUnknown):
                assert (f"k{number}" in sorts) == (told is None)

    async def test_closing_twice_is_closing_once(self, driver: DocumentDriver) -> None:
        await driver.close()
        await driver.close()

    async def test_a_closed_driver_says_that_it_is_down(self, driver: DocumentDriver, shelf: Shelf) -> None:
        await shelf.fill("a")
        await driver.close()
        for attempt in (
            shelf.get("a"),
            shelf.page("A", "~"),
            shelf.commit(put("b")),
            driver.probe(timeout_s=TIMEOUT_S),
        ):
            with pytest.raises(BackendDown):
                await attempt

    async def test_one_client_closing_leaves_another_open(
        self, driver: DocumentDriver, shelf: Shelf, open_another: OpenAnother
    ) -> None:
        must_be(driver.capabilities.shared, "shared")
        other = shelf.seen_by(await open_another())
        await shelf.fill("a")
        await driver.close()
        await other.fill("b")
        assert await other.sorts() == ["a", "b"]

    async def test_a_sign_of_life_is_nothing_but_that(self, driver: DocumentDriver, shelf: Shelf) -> None:
        await driver.probe(timeout_s=TIMEOUT_S)
        assert await shelf.sorts() == []

    async def test_a_caller_that_goes_away_leaves_the_driver_well(self, shelf: Shelf) -> None:
        sorts = [f"k{number}" for number in range(10)]
        call = asyncio.create_task(shelf.insist(*(put(sort, expect=Expect.ABSENT) for sort in sorts)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        await shelf.insist(*(put(sort, 2) for sort in (*sorts, "z")))
        assert [document.version for document in await shelf.all()] == [2] * 11


async def append(shelf: Shelf, *, count: int) -> list[int]:
    """Number new items after the head's version, as many as asked for, and return their numbers."""
    numbers: list[int] = []
    while len(numbers) < count:
        head = await shelf.one("head")
        number = head.version + 1
        if await shelf.wins(
            put("head", number, expect=head.version, token=head.token),
            put(f"item-{number:04}", expect=Expect.ABSENT),
        ):
            numbers.append(number)
    return numbers


async def outcome(shelf: Shelf, sort: str) -> PerdureError | None:
    """What became of one commit: None if it was acknowledged."""
    try:
        await shelf.commit(put(sort))
    except ExpectationFailed:
        raise
    except PerdureError as error:
        return error
    return None
