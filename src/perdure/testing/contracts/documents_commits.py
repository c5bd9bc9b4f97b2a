"""What a commit expects, what it leaves, and what it says when it failed."""

from __future__ import annotations

import pytest

from perdure.ports.documents import (
    COMMIT_WRITES_MAX,
    Expect,
    Expectation,
    ExpectationFailed,
    Remove,
    Require,
)
from perdure.testing.contracts.documents_opening import DocumentsContract, Shelf, new_id, put

NOTHING_FAILS = (Expect.PRESENT, 0, 1, 7)
ONE_FAILS = (Expect.ABSENT, 0, 2, 7)
ONE_HOLDS = (Expect.PRESENT, Expect.ANY, 1)


class DocumentCommitsContract(DocumentsContract):
    """Expectations of puts, removals and requirements, with tokens and without."""

    @pytest.mark.parametrize("expect", [Expect.ABSENT, Expect.ANY])
    async def test_a_put_where_nothing_is_writes_what_it_says(self, shelf: Shelf, expect: Expectation) -> None:
        commit_id = new_id()
        await shelf.commit(put("a", 3, b'{"n":1}', expect=expect), commit_id=commit_id)
        document = await shelf.one("a")
        assert (document.sort, document.version, document.body) == ("a", 3, b'{"n":1}')
        assert (document.commit_id, document.expires_at) == (commit_id, None)

    @pytest.mark.parametrize("expect", NOTHING_FAILS)
    async def test_a_put_that_expects_something_fails_where_nothing_is(self, shelf: Shelf, expect: Expectation) -> None:
        error = await shelf.fails(put("a", 2, expect=expect))
        assert error.sort in {None, "a"}
        assert error.found is None
        assert await shelf.get("a") == {}

    @pytest.mark.parametrize("expect", ONE_HOLDS)
    @pytest.mark.parametrize("with_token", ["without a token", "with the token read", "with the token returned"])
    async def test_a_put_replaces_what_it_expects(self, shelf: Shelf, expect: Expectation, with_token: str) -> None:
        (returned,) = await shelf.commit(put("a", 1, b"1"))
        tokens = {"with the token read": (await shelf.one("a")).token, "with the token returned": returned}
        commit_id = new_id()
        await shelf.commit(put("a", 2, b"2", expect=expect, token=tokens.get(with_token)), commit_id=commit_id)
        document = await shelf.one("a")
        assert (document.version, document.body, document.commit_id) == (2, b"2", commit_id)

    @pytest.mark.parametrize("expect", ONE_FAILS)
    async def test_a_put_that_finds_something_else_writes_nothing(self, shelf: Shelf, expect: Expectation) -> None:
        await shelf.commit(put("a", 1, b"1"))
        before = await shelf.one("a")
        error = await shelf.fails(put("a", 3, b"3", expect=expect))
        assert error.sort in {None, "a"}
        assert error.found in {None, before}
        assert await shelf.one("a") == before

    async def test_a_stale_version_fails_with_its_stale_token_too(self, shelf: Shelf) -> None:
        (returned,) = await shelf.commit(put("a", 1))
        read = (await shelf.one("a")).token
        await shelf.commit(put("a", 2, b"2", expect=1, token=returned))
        for token in (returned, read):
            await shelf.fails(put("a", 3, b"3", expect=1, token=token))
            await shelf.fails(Remove(sort="a", expect=1, token=token))
        assert (await shelf.one("a")).body == b"2"

    async def test_a_token_of_what_was_removed_fails(self, shelf: Shelf) -> None:
        (token,) = await shelf.commit(put("a", 1))
        await shelf.commit(Remove(sort="a", expect=1, token=token))
        await shelf.fails(put("a", 2, expect=1, token=token))
        await shelf.fails(Remove(sort="a", expect=1, token=token))
        assert await shelf.get("a") == {}

    async def test_tokens_returned_carry_a_document_through_many_versions(self, shelf: Shelf) -> None:
        (token,) = await shelf.commit(put("a", 1, expect=Expect.ABSENT))
        for version in range(2, 12):
            (token,) = await shelf.commit(put("a", version, expect=version - 1, token=token))
        assert (await shelf.one("a")).version == 11

    async def test_the_token_read_in_a_scan_is_that_of_a_get(self, shelf: Shelf) -> None:
        await shelf.commit(put("a", 1), put("b", 1))
        scanned = {document.sort: document.token for document in await shelf.all()}
        await shelf.commit(*(put(sort, 2, expect=1, token=token) for sort, token in scanned.items()))
        assert [document.version for document in await shelf.all()] == [2, 2]

    async def test_a_version_may_stay_or_go_back_if_the_writer_says_so(self, shelf: Shelf) -> None:
        await shelf.commit(put("a", 5, b"1"))
        await shelf.commit(put("a", 5, b"2", expect=5))
        await shelf.commit(put("a", 2, b"3", expect=5))
        assert (await shelf.one("a")).body == b"3"

    @pytest.mark.parametrize("expect", ONE_HOLDS)
    @pytest.mark.parametrize("with_token", ["without a token", "with the token read", "with the token returned"])
    async def test_a_removal_removes_what_it_expects(self, shelf: Shelf, expect: Expectation, with_token: str) -> None:
        (returned,) = await shelf.commit(put("a", 1))
        tokens = {"with the token read": (await shelf.one("a")).token, "with the token returned": returned}
        assert list(await shelf.commit(Remove(sort="a", expect=expect, token=tokens.get(with_token)))) == [None]
        assert await shelf.get("a") == {}
        assert await shelf.sorts() == []

    @pytest.mark.parametrize("expect", [0, 2, 7])
    async def test_a_removal_of_another_version_removes_nothing(self, shelf: Shelf, expect: Expectation) -> None:
        await shelf.commit(put("a", 1))
        before = await shelf.one("a")
        error = await shelf.fails(Remove(sort="a", expect=expect))
        assert error.sort in {None, "a"}
        assert error.found in {None, before}
        assert await shelf.one("a") == before

    @pytest.mark.parametrize("expect", NOTHING_FAILS)
    async def test_a_removal_that_expects_something_fails_where_nothing_is(
        self, shelf: Shelf, expect: Expectation
    ) -> None:
        error = await shelf.fails(Remove(sort="a", expect=expect), put("b"))
        assert error.found is None
        assert await shelf.sorts() == []

    async def test_removing_what_is_not_there_is_fine_if_it_does_not_matter(self, shelf: Shelf) -> None:
        await shelf.commit(Remove(sort="a", expect=Expect.ANY), put("b"))
        assert await shelf.sorts() == ["b"]

    async def test_what_was_removed_can_be_put_again(self, shelf: Shelf) -> None:
        await shelf.commit(put("a", 4, b"1"))
        await shelf.commit(Remove(sort="a", expect=4))
        await shelf.commit(put("a", 1, b"2", expect=Expect.ABSENT))
        document = await shelf.one("a")
        assert (document.version, document.body) == (1, b"2")

    async def test_a_requirement_of_what_is_there_holds_and_leaves_it_as_it_was(self, shelf: Shelf) -> None:
        (token,) = await shelf.commit(put("a", 7, b'{"n":7}'))
        before = await shelf.one("a")
        assert (await shelf.commit(Require(sort="a"), put("b")))[0] is None
        assert await shelf.one("a") == before
        await shelf.commit(put("a", 8, expect=7, token=token))  # the token of before is as good as before
        assert await shelf.sorts() == ["a", "b"]

    async def test_a_commit_may_be_nothing_but_requirements(self, shelf: Shelf) -> None:
        await shelf.fill("a", "b")
        before = await shelf.get("a", "b")
        assert list(await shelf.commit(Require(sort="a"), Require(sort="b"))) == [None, None]
        assert await shelf.get("a", "b") == before
        await shelf.fails(Require(sort="a"), Require(sort="c"))

    async def test_a_requirement_of_what_is_not_there_fails_the_commit(self, shelf: Shelf) -> None:
        await shelf.fill("x")
        error = await shelf.fails(put("a"), Require(sort="m"), Remove(sort="x", expect=Expect.ANY))
        assert error.sort in {None, "m"}
        assert error.found is None
        assert await shelf.sorts() == ["x"]

    @pytest.mark.parametrize("position", [0, 1, 49, COMMIT_WRITES_MAX - 1])
    async def test_one_expectation_of_many_that_fails_leaves_nothing_written(self, shelf: Shelf, position: int) -> None:
        await shelf.fill("k000", "k999", "r")
        before = await shelf.all()
        writes = [put(f"m{number:03}", expect=Expect.ABSENT) for number in range(COMMIT_WRITES_MAX - 3)]
        writes += [put("k000", 2, expect=1), put("k999", 2, expect=Expect.PRESENT)]
        failing = put("r", 2, expect=Expect.ABSENT)
        error = await shelf.fails(*writes[:position], failing, *writes[position:])
        assert error.sort in {None, "r"}
        assert error.found in (None, before[-1])
        assert await shelf.all() == before

    async def test_a_failure_names_one_of_those_that_failed(self, shelf: Shelf) -> None:
        await shelf.commit(put("b", 4), put("d", 5))
        documents = await shelf.get("b", "d")
        error = await shelf.fails(put("a"), put("b", 9, expect=3), put("c"), put("d", 9, expect=4))
        assert error.sort in {None, "b", "d"}
        if error.found is not None:
            assert error.sort is not None
            assert error.found == documents[error.sort]
        assert await shelf.sorts() == ["b", "d"]

    async def test_the_tokens_returned_are_in_the_order_of_the_writes(self, shelf: Shelf) -> None:
        await shelf.fill("c", "d", "e")
        writes = (put("z"), Remove(sort="d", expect=1), put("c", 2), Require(sort="e"), put("a"))
        tokens = await shelf.commit(*writes)
        assert len(tokens) == len(writes)
        assert tokens[1] is tokens[3] is None
        await shelf.commit(
            put("z", 2, expect=1, token=tokens[0]),
            put("c", 3, expect=2, token=tokens[2]),
            put("a", 2, expect=1, token=tokens[4]),
        )
        assert [document.version for document in await shelf.all()] == [2, 3, 1, 2]

    async def test_every_document_of_a_commit_carries_its_id(self, shelf: Shelf) -> None:
        first, second = new_id(), new_id()
        await shelf.commit(put("a"), put("b"), put("c"), commit_id=first)
        await shelf.commit(put("b", 2, expect=1), Require(sort="c"), commit_id=second)
        assert [document.commit_id for document in await shelf.all()] == [first, second, first]

    async def test_a_commit_sent_again_is_done_once(self, shelf: Shelf) -> None:
        await shelf.fill("b")
        commit_id = new_id()
        writes = (put("a", 1, expect=Expect.ABSENT), put("b", 2, expect=1), put("c", 1, expect=Expect.ABSENT))
        await shelf.commit(*writes, commit_id=commit_id)
        before = await shelf.all()
        await shelf.wins(*writes, commit_id=commit_id)
        assert await shelf.all() == before
        assert {document.commit_id for document in before} == {commit_id}

    async def test_a_commit_sent_again_succeeds_or_finds_itself(self, shelf: Shelf) -> None:
        commit_id = new_id()
        await shelf.commit(put("a", 1, expect=Expect.ABSENT), commit_id=commit_id)
        try:
            await shelf.commit(put("a", 1, expect=Expect.ABSENT), commit_id=commit_id)
        except ExpectationFailed as error:
            assert (error.found or await shelf.one("a")).commit_id == commit_id  # noqa: PT017 - either is right
        assert (await shelf.one("a")).commit_id == commit_id

    async def test_a_commit_sent_again_late_does_not_undo_what_came_after(self, shelf: Shelf) -> None:
        commit_id = new_id()
        writes = (put("a", 1, b"1", expect=Expect.ABSENT), put("b", 1, b"1", expect=Expect.ABSENT))
        await shelf.commit(*writes, commit_id=commit_id)
        await shelf.commit(put("a", 2, b"2", expect=1))
        before = await shelf.all()
        await shelf.wins(*writes, commit_id=commit_id)
        assert await shelf.all() == before
