"""Any sequence of requests has the same answers from a driver as from the one in memory, which is its model."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.sqlite.driver import SqliteDriver
from perdure.ports.documents import Document, DocumentDriver, Expect, ExpectationFailed, Put, Remove, Require, Write

PARTITIONS = ("p", "p-", "P", "q")
SORTS = ("A", "a", "a-", "a.b", "aA", "b", "z~")
BOUNDS = ("-", "A", "A~", "a", "a-", "a.b", "b", "z", "~")
TIMEOUT_S = 30.0

bodies = st.sampled_from([b"{}", b'{"a": 1}', '"é"'.encode(), b'"' + b"x" * 5_000 + b'"'])
versions = st.integers(0, 3)
expectations = st.one_of(st.sampled_from([Expect.ANY, Expect.PRESENT]), versions)
writes = st.one_of(
    st.builds(Put, sort=st.sampled_from(SORTS), version=versions, body=bodies, expect=st.just(Expect.ABSENT)),
    st.builds(Put, sort=st.sampled_from(SORTS), version=versions, body=bodies, expect=expectations),
    st.builds(Remove, sort=st.sampled_from(SORTS), expect=expectations),
    st.builds(Require, sort=st.sampled_from(SORTS)),
)
commits = st.lists(writes, min_size=1, max_size=5, unique_by=lambda write: write.sort)


class DriverAndModel(RuleBasedStateMachine):
    """Both are asked the same; a class of a driver says how to make one on a folder (here: the model once more)."""

    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory()))
        self.loop = self.resources.enter_context(asyncio.Runner())
        self.model = MemoryDriver()
        self.driver = type(self).make(self.folder)
        self.count = 0

    @staticmethod
    def make(folder: Path) -> DocumentDriver:
        del folder
        return MemoryDriver()

    @initialize()
    def open(self) -> None:
        self.loop.run(self.model.open())
        self.loop.run(self.driver.open())

    def teardown(self) -> None:
        self.loop.run(self.driver.close())
        self.resources.close()

    @rule(partition=st.sampled_from(PARTITIONS), commit=commits, with_tokens=st.booleans())
    def commit(self, partition: str, commit: list[Write], *, with_tokens: bool) -> None:
        self.count += 1
        told = [
            self.loop.run(self._commit(driver, partition, commit, with_tokens=with_tokens))
            for driver in (self.model, self.driver)
        ]
        assert (told[0] is None) == (told[1] is None)
        if told[1] is not None and told[1].sort is not None:
            assert told[1].sort in {write.sort for write in commit}

    async def _commit(
        self, driver: DocumentDriver, partition: str, commit: list[Write], *, with_tokens: bool
    ) -> ExpectationFailed | None:
        if with_tokens:
            there = await driver.get(partition, [write.sort for write in commit], timeout_s=TIMEOUT_S)
            commit = [with_token(write, there.get(write.sort)) for write in commit]
        try:
            tokens = await driver.commit(partition, commit, commit_id=f"c{self.count}", timeout_s=TIMEOUT_S)
        except ExpectationFailed as error:
            return error
        assert len(tokens) == len(commit)
        return None

    @rule(partition=st.sampled_from(PARTITIONS), sorts=st.lists(st.sampled_from(SORTS), unique=True))
    def get(self, partition: str, sorts: list[str]) -> None:
        found = [
            self.loop.run(driver.get(partition, sorts, timeout_s=TIMEOUT_S)) for driver in (self.model, self.driver)
        ]
        assert found[0] == found[1]

    @rule(
        partition=st.sampled_from(PARTITIONS),
        bounds=st.tuples(st.sampled_from(BOUNDS), st.sampled_from(BOUNDS)).map(sorted),
        limit=st.integers(1, 4),
        reverse=st.booleans(),
    )
    def walk(self, partition: str, bounds: list[str], limit: int, *, reverse: bool) -> None:
        walks = [
            self.loop.run(walked(driver, partition, bounds, limit, reverse=reverse))
            for driver in (self.model, self.driver)
        ]
        assert walks[0] == walks[1]

    @precondition(lambda self: type(self).durable)
    @rule()
    def open_again(self) -> None:
        self.loop.run(self.driver.close())
        self.driver = type(self).make(self.folder)
        self.loop.run(self.driver.open())

    @invariant()
    def everything_is_the_same(self) -> None:
        if self.count:
            for partition in PARTITIONS:
                self.walk_all(partition)

    def walk_all(self, partition: str) -> None:
        everything = [
            self.loop.run(walked(driver, partition, ["A", "~"], 100, reverse=False))
            for driver in (self.model, self.driver)
        ]
        assert everything[0] == everything[1]


def with_token(write: Write, there: Document | None) -> Write:
    """A write as somebody sends it who has read: a token goes with the version it came with."""
    if isinstance(write, Require) or there is None or write.expect != there.version:
        return write
    if isinstance(write, Remove):
        return Remove(sort=write.sort, expect=write.expect, token=there.token)
    return Put(sort=write.sort, version=write.version, body=write.body, expect=write.expect, token=there.token)


async def walked(
    driver: DocumentDriver, partition: str, bounds: list[str], limit: int, *, reverse: bool
) -> list[Document]:
    start, end = bounds
    documents: list[Document] = []
    more = True
    while more:
        page = await driver.scan(partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=TIMEOUT_S)
        documents += page.documents
        more = page.more
        if more:
            last = page.documents[-1].sort
            start, end = (start, last) if reverse else (last + "-", end)
    return documents


class SqliteAndModel(DriverAndModel):
    durable = True

    @staticmethod
    def make(folder: Path) -> DocumentDriver:
        return SqliteDriver(folder / "documents.db")


@pytest.mark.parametrize("machine", [SqliteAndModel])
def test_a_driver_answers_as_its_model(machine: type[DriverAndModel]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
