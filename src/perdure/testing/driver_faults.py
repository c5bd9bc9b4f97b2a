"""A document driver that fails on purpose: to put between what is tested and any driver.

::

    faulty = FaultyDriver(driver, commits=[None, Fault.LOST_DONE])  # the second commit is done, and nobody is told
    faulty = FaultyDriver(driver, read_chances={Fault.TORN: 0.5}, seed=7)
    for number in range(1, 100):
        faulty = FaultyDriver(driver, crash=Crash(at=number, moment="after"))

Everything follows from the arguments: the same script or seed fails the same operations in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal, NoReturn

from perdure.errors import BackendDown, Invalid, OutcomeUnknown, PerdureError, Refused, Throttled, TimedOut
from perdure.ports.capabilities import Capabilities
from perdure.ports.documents import Document, DocumentDriver, Page, Write
from perdure.testing.driver_replicas import Replica, Replicas
from perdure.testing.environment import SeededRandomness

__all__ = ["Crash", "Crashed", "Fault", "FaultyDriver", "Replicas"]


class Fault(Enum):
    """What may happen to one operation."""

    THROTTLED = "throttled"  # Throttled, not done, and so are the next ones: see ``burst``
    DOWN = "down"  # BackendDown, not done
    TIMED_OUT = "timed_out"  # TimedOut, not done
    LOST_UNDONE = "lost_undone"  # OutcomeUnknown, and the commit was not done
    LOST_DONE = "lost_done"  # OutcomeUnknown, and the commit was done, or failed as it would have
    TORN = "torn"  # a scan returns a part of its page, and says that there is more


READ_FAULTS: Final = frozenset({Fault.THROTTLED, Fault.DOWN, Fault.TIMED_OUT, Fault.TORN})
COMMIT_FAULTS: Final = frozenset(Fault) - {Fault.TORN}


class Crashed(BaseException):
    """The process is gone, as far as its driver can tell. No ``except Exception`` gets in its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Where the process dies: right before or right after the ``at``-th operation, counted from 1."""

    at: int
    moment: Literal["before", "after"] = "before"
    among: Literal["operations", "reads", "commits"] = "operations"


class FaultyDriver:
    """A driver that hands everything to another, except for what is to go wrong.

    ``reads`` and ``commits`` say what happens to the first operations of each, in order (None: nothing); after them,
    chance decides with ``read_chances`` and ``commit_chances``, from ``seed``. A throttled operation throttles the
    ``burst - 1`` operations after it too. ``replicas``, given to several drivers on the same data, makes each see the
    commits of the others late. After a ``crash`` every operation raises ``Crashed``, so that no handler writes what a
    dead process could not have written.

    ``operations`` counts what was asked for, by name, whatever became of it.
    """

    def __init__(
        self,
        driver: DocumentDriver,
        *,
        reads: Iterable[Fault | None] = (),
        commits: Iterable[Fault | None] = (),
        read_chances: Mapping[Fault, float] | None = None,
        commit_chances: Mapping[Fault, float] | None = None,
        seed: int = 0,
        burst: int = 1,
        retry_after_s: float = 0.05,
        crash: Crash | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self.operations: Counter[str] = Counter()
        self._driver = driver
        self._reads = _Faults(reads, read_chances or {}, possible=READ_FAULTS, seed=3 * seed)
        self._commits = _Faults(commits, commit_chances or {}, possible=COMMIT_FAULTS, seed=3 * seed + 1)
        self._randomness = SeededRandomness(3 * seed + 2)
        self._burst = burst
        self._throttled = 0
        self._retry_after_s = retry_after_s
        self._crash = crash
        self._is_crashed = False
        self._replica = None if replicas is None else Replica(replicas, driver)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver behind it; ``session`` consistency if there are replicas."""
        able = self._driver.capabilities
        return able if self._replica is None else replace(able, consistency="session")

    @property
    def reads(self) -> int:
        """How many gets and scans were asked for."""
        return self.operations["get"] + self.operations["scan"]

    @property
    def commits(self) -> int:
        """How many commits were asked for."""
        return self.operations["commit"]

    async def open(self) -> None:
        """Open the driver behind it."""
        await self._driver.open()

    async def close(self) -> None:
        """Close the driver behind it."""
        await self._driver.close()

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the driver behind it; fails only after a crash."""
        self.operations["probe"] += 1
        if self._is_crashed:
            self._die()
        await self._driver.probe(timeout_s=timeout_s)

    async def get(self, partition: str, sorts: Sequence[str], *, timeout_s: float) -> Mapping[str, Document]:
        """Get, or the fault whose turn it is."""
        async with self._operation("get"):
            self._fail(self._reads.next())
            if self._replica is not None:
                return await self._replica.get(partition, sorts, timeout_s=timeout_s)
            return await self._driver.get(partition, sorts, timeout_s=timeout_s)

    async def scan(
        self,
        partition: str,
        *,
        start: str,
        end: str,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> Page:
        """Scan, a part of it, or the fault whose turn it is."""
        async with self._operation("scan"):
            fault = self._reads.next()
            self._fail(fault)
            driver = self._driver if self._replica is None else self._replica
            page = await driver.scan(partition, start=start, end=end, limit=limit, reverse=reverse, timeout_s=timeout_s)
            return self._torn(page) if fault is Fault.TORN else page

    async def commit(
        self, partition: str, writes: Sequence[Write], *, commit_id: str, timeout_s: float
    ) -> Sequence[object]:
        """Commit, or the fault whose turn it is."""
        async with self._operation("commit"):
            fault = self._commits.next()
            self._fail(fault)
            driver = self._driver if self._replica is None else self._replica
            if fault is Fault.LOST_DONE:
                try:
                    await driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)
                except Refused:
                    raise  # it was never sent
                except PerdureError as exc:
                    raise _lost() from exc
                raise _lost()
            return await driver.commit(partition, writes, commit_id=commit_id, timeout_s=timeout_s)

    @asynccontextmanager
    async def _operation(self, name: str) -> AsyncIterator[None]:
        self.operations[name] += 1
        dies = self._crash is not None and self._crash.at == self._count(self._crash.among, name)
        if self._is_crashed or (dies and self._crash is not None and self._crash.moment == "before"):
            self._die()
        try:
            yield
        finally:
            if dies or self._is_crashed:  # somebody else may have died while this one was under way
                self._die()

    def _count(self, among: str, name: str) -> int | None:
        """Which one the operation that begins now is among those that count; None if it is none of them."""
        if among == "commits":
            return self.commits if name == "commit" else None
        if among == "reads":
            return None if name == "commit" else self.reads
        return self.reads + self.commits

    def _die(self) -> NoReturn:
        self._is_crashed = True
        raise Crashed

    def _fail(self, fault: Fault | None) -> None:
        if fault is Fault.THROTTLED:
            self._throttled = max(self._throttled, self._burst)
        if self._throttled:
            self._throttled -= 1
            raise Throttled("throttled on purpose; try again", retry_after_s=self._retry_after_s)
        if fault is Fault.DOWN:
            raise BackendDown("down on purpose; try again")
        if fault is Fault.TIMED_OUT:
            raise TimedOut("out of time on purpose; try again")
        if fault is Fault.LOST_UNDONE:
            raise _lost()

    def _torn(self, page: Page) -> Page:
        if len(page.documents) < 2:
            return page
        kept = 1 + int(self._randomness.random() * (len(page.documents) - 1))
        return Page(documents=page.documents[:kept], more=True)


class _Faults:
    """A script, and chance after it."""

    def __init__(
        self,
        script: Iterable[Fault | None],
        chances: Mapping[Fault, float],
        *,
        possible: frozenset[Fault],
        seed: int,
    ) -> None:
        self._script = list(script)
        self._chances = dict(chances)
        for fault in (*self._script, *self._chances):
            if fault is not None and fault not in possible:
                raise Invalid(
                    f"{fault.value} does not happen here; expected one of {sorted(f.value for f in possible)}"
                )
        if not sum(self._chances.values()) <= 1:
            raise Invalid("the chances of all faults together are above 1")
        self._randomness = SeededRandomness(seed)
        self._count = 0

    def next(self) -> Fault | None:
        self._count += 1
        if self._count <= len(self._script):
            return self._script[self._count - 1]
        if not self._chances:
            return None
        drawn = self._randomness.random()
        for fault, chance in self._chances.items():
            if drawn < chance:
                return fault
            drawn -= chance
        return None


def _lost() -> OutcomeUnknown:
    return OutcomeUnknown("the answer was lost on purpose, so that the commit may be done or not; send it again")
