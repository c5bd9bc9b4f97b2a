"""Appending: one writer for each log in a process, which knows where the log is and merges appends that wait together.

A writer that knows the log appends in one call to the engine, however long the log is: the commit requires the gate and
puts entries where nothing may be. If that fails, what the writer knew is forgotten, read again, and every waiting call
is judged again by what is there now. A commit is all or nothing for all calls in it, and each has its own answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from perdure.adapters.documents import keys
from perdure.adapters.documents.audits import audit_put
from perdure.adapters.documents.log_documents import Header, Life, LogState, Marker
from perdure.adapters.documents.log_lives import LogLives
from perdure.adapters.documents.log_looking import LogLooking, Look, wait
from perdure.adapters.documents.log_plan import Call, Known, Plan, Planner
from perdure.adapters.documents.resilience import BACKOFF_BASE_S, RETRIED, ResilientDriver
from perdure.domain.container import Container
from perdure.domain.log import APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Appended, LogSettings, NewEntry
from perdure.domain.store_audit import StoreAudit
from perdure.errors import OutcomeUnknown, PerdureError, TimedOut
from perdure.ports.documents import COMMIT_WRITES_MAX, ExpectationFailed, Require, Write
from perdure.ports.patience import Patience

WRITERS_MAX: Final = 1_024  # logs that one process knows the end of; one that is forgotten costs two reads
# A writer that knows where the log ends appends in one call, and whoever does not needs three: it would never get there
# while this one goes on. So each gives way now and then, for as long as three of its commits take.
TURN_S: Final = 1.0  # how long a writer that met nobody goes on without a rest
TURN_COMMITS_CONTENDED: Final = 4  # where another was met lately
REST_S_MAX: Final = 0.5  # a commit that met others may have taken long, and says little about the next
CONTENDED_S: Final = 5.0  # what is lately
_WRITES_RESERVED: Final = 2  # the gate, and the header of a log that is being made


@dataclass(slots=True, kw_only=True, eq=False)
class Append:
    """One call that waits for its answer."""

    entries: Sequence[NewEntry]
    expected: int | None
    settings: LogSettings | None
    audit: StoreAudit | None
    patience: Patience
    answer: asyncio.Future[Sequence[Appended]]
    size: int

    @property
    def waits(self) -> bool:
        """Whether anybody still wants an answer."""
        return not self.answer.done()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        if self.waits:
            self.answer.set_exception(error)


@dataclass(slots=True)
class _Turn:
    """How long a writer has had a log to itself."""

    commits: int = 0
    began_s: float = 0.0
    ended_s: float = 0.0
    longest_s: float = 0.0
    met_s: float = float("-inf")

    def add(self, *, began_s: float, now_s: float) -> None:
        """One commit more."""
        if not self.commits:
            self.began_s = began_s
        self.commits += 1
        self.longest_s = max(self.longest_s, now_s - began_s)
        self.ended_s = now_s

    def lose(self, *, now_s: float) -> None:
        """Another was first: it is their turn."""
        self.commits, self.longest_s, self.met_s = 0, 0.0, now_s

    def rest_s(self, *, now_s: float) -> float:
        """How long to give way now; a turn that was interrupted for as long anyway begins again."""
        rest_s = min(BACKOFF_BASE_S + 3 * self.longest_s, REST_S_MAX) - (now_s - self.ended_s)
        is_contended = now_s - self.met_s < CONTENDED_S
        is_over = self.commits >= TURN_COMMITS_CONTENDED if is_contended else now_s - self.began_s >= TURN_S
        if rest_s > 0 and not (self.commits and is_over):
            return 0.0
        self.commits, self.longest_s = 0, 0.0
        return max(rest_s, 0.0)


@dataclass(slots=True, kw_only=True)
class _Lane:
    """A log and who waits to append to it."""

    log: Container
    waiting: deque[Append] = field(default_factory=deque)
    under_way: Sequence[Append] = ()
    state: LogState | None = None
    task: asyncio.Task[None] | None = None
    turn: _Turn = field(default_factory=_Turn)

    def give_up(self, append: Append) -> None:
        """The time of a call is over; one that is under way knows itself when to end."""
        if append in self.waiting:
            self.waiting.remove(append)
            append.fail(TimedOut("other appends to this log took all the time there was; nothing was done, try again"))


@dataclass(slots=True)
class _Tries:
    """What one batch of calls tried so far, for judging what is found afterwards."""

    commit_ids: set[str] = field(default_factory=set)
    lost: tuple[int, int] | None = None  # epoch and first number of an attempt that may have been written

    def begin(self, driver: ResilientDriver) -> str:
        """The id of another attempt."""
        commit_id = driver.new_commit_id()
        self.commit_ids.add(commit_id)
        return commit_id

    def lose(self, epoch: int, first: int) -> None:
        """An attempt's answer was lost for good."""
        self.lost = self.lost or (epoch, first)


class LogWriters:
    """The writers of all logs that this process appends to."""

    def __init__(self, driver: ResilientDriver, *, looking: LogLooking, lives: LogLives) -> None:
        self._driver = driver
        self._looking = looking
        self._lives = lives
        self._lanes: OrderedDict[Container, _Lane] = OrderedDict()

    async def append(
        self,
        log: Container,
        entries: Sequence[NewEntry],
        *,
        expected: int | None,
        settings: LogSettings | None,
        audit: StoreAudit | None,
        timeout_s: float,
    ) -> Sequence[Appended]:
        """Append entries that were checked."""
        append = Append(
            entries=entries,
            expected=expected,
            settings=settings,
            audit=audit,
            patience=self._driver.patience(timeout_s),
            answer=asyncio.get_running_loop().create_future(),
            size=sum([len(entry.body) for entry in entries]),
        )
        lane = self._lane(log)
        lane.waiting.append(append)
        if lane.task is None:
            self._start(lane)
        late = asyncio.get_running_loop().call_later(timeout_s, lane.give_up, append)
        try:
            return await append.answer
        finally:
            late.cancel()

    def forget(self, log: Container) -> None:
        """Look at the log again before the next append."""
        if (lane := self._lanes.get(log)) is not None:
            lane.state = None

    async def close(self) -> None:
        """Wait until everything that was accepted is answered."""
        while tasks := [lane.task for lane in self._lanes.values() if lane.task is not None]:
            await asyncio.wait(tasks)

    def _lane(self, log: Container) -> _Lane:
        lane = self._lanes.get(log)
        if lane is None:
            lane = self._lanes[log] = _Lane(log=log)
            if len(self._lanes) > WRITERS_MAX:
                idle = next((other for other, one in self._lanes.items() if one.task is None and one is not lane), None)
                if idle is not None:
                    del self._lanes[idle]
        self._lanes.move_to_end(log)
        return lane

    def _start(self, lane: _Lane) -> None:
        lane.task = asyncio.get_running_loop().create_task(self._drain(lane))
        # A callback, because a task that is cancelled before its first step runs nothing of its own.
        lane.task.add_done_callback(lambda task: self._drained(lane, task))

    def _drained(self, lane: _Lane, task: asyncio.Task[None]) -> None:
        lane.task = None
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        if failure is not None:  # nobody is left waiting for an answer that never comes
            lane.state = None
            for append in (*lane.under_way, *lane.waiting):
                if isinstance(failure, asyncio.CancelledError):
                    append.answer.cancel()
                else:
                    append.fail(failure)
            lane.waiting.clear()
        elif lane.waiting:
            self._start(lane)

    async def _drain(self, lane: _Lane) -> None:
        clock = self._driver.environment.clock
        while lane.waiting:
            if (rest_s := lane.turn.rest_s(now_s=clock.monotonic())) > 0:
                await self._driver.patience(rest_s).rest(rest_s)
            lane.under_way = batch = _take(lane.waiting)
            began_s = clock.monotonic()
            await self._append_together(lane, batch)
            lane.turn.add(began_s=began_s, now_s=clock.monotonic())
        lane.under_way = ()

    async def _append_together(self, lane: _Lane, batch: Sequence[Append]) -> None:
        tries = _Tries()
        while appends := [append for append in batch if append.waits]:
            # Whoever has the least time decides how long one attempt may take; the others go on after it.
            patience = min((append.patience for append in appends), key=lambda one: one.left_s)
            try:
                if await self._attempt(lane, appends, tries, patience=patience):
                    continue
                lane.turn.lose(now_s=self._driver.environment.clock.monotonic())
                await wait(patience)
            except RETRIED as exc:
                lane.state = None
                _give_up(appends, exc, tries)
                if isinstance(exc, OutcomeUnknown):
                    await patience.pause()
            except PerdureError as exc:
                lane.state = None
                for append in appends:
                    append.fail(exc)

    async def _attempt(self, lane: _Lane, appends: Sequence[Append], tries: _Tries, *, patience: Patience) -> bool:
        """Try to answer these calls; False if somebody else was first, and it has to be tried again after a pause."""
        now = self._lives.now()
        state, lane.state = lane.state, None
        markers: Mapping[str, Marker] = {}
        is_fresh = state is None or state.is_expired(now)
        if state is None or is_fresh:
            look = await self._looking.look(lane.log, patience=patience)
            if look.state is None or look.state.is_expired(now):
                return await self._make(lane, look, appends, tries, patience=patience)
            state = look.state
            if tries.lost is not None and tries.lost[0] == state.epoch and tries.lost[1] <= state.floor:
                for append in appends:
                    append.fail(OutcomeUnknown("entries were appended or not, and what could tell was trimmed since"))
                return True
            ids = [entry.entry_id for append in appends for entry in append.entries]
            markers = await self._looking.markers(lane.log, state.epoch, ids, patience=patience)
        at = max(now, state.touched_at)
        plan = _plan(appends, state, markers, tries, at=at)
        if plan.refuses and not is_fresh:
            return True  # by what was true once: look before anybody is refused
        if plan.count:
            try:
                await self._driver.commit(
                    keys.log_partition(lane.log),
                    [Require(sort=state.life.gate), *plan.writes, *_audits(appends, plan)],
                    timeout_s=patience.left_s,
                    commit_id=tries.begin(self._driver),
                )
            except ExpectationFailed:
                return False
            except OutcomeUnknown:
                tries.lose(state.epoch, state.sequence + 1)
                raise
        lane.state = state.appended(plan.count, at=at) if plan.count else state
        _answer(appends, plan)
        return True

    async def _make(
        self, lane: _Lane, look: Look, appends: Sequence[Append], tries: _Tries, *, patience: Patience
    ) -> bool:
        """Append to a log that is not there."""
        now = self._lives.now()
        nothing = _nothing(now)
        refused = _plan(appends, nothing, {}, tries, at=now)
        _answer(appends, refused, refusals_only=True)
        appends = [append for append in appends if append.waits]
        if not appends:
            return True  # nothing is made for what is refused
        making = await self._lives.make(lane.log, look, appends[0].settings or LogSettings(), patience=patience)
        if making is None:
            return False
        header = making.header
        state = LogState(life=replace(making.life, header=header), sequence=0, touched_at=header.touched_at)
        plan = _plan(appends, state, {}, tries, at=header.touched_at)
        try:
            life = await self._lives.change(
                lane.log,
                making.life,
                header,
                beside=[*plan.writes, *_audits(appends, plan)],
                patience=patience,
                commit_id=tries.begin(self._driver),
            )
        except OutcomeUnknown:
            tries.lose(header.epoch, 1)
            raise
        if life is None:
            return False
        lane.state = LogState(life=life, sequence=plan.count, touched_at=header.touched_at)
        _answer(appends, plan)
        return True


def _take(waiting: deque[Append]) -> Sequence[Append]:
    """The next calls to go together, as many as fit one commit, at least one; who gave up is passed over."""
    batch: list[Append] = []
    entries = size = audits = 0
    while waiting:
        append = waiting[0]
        entries += len(append.entries)
        size += append.size
        audits += append.audit is not None
        fits = entries <= APPEND_ENTRIES_MAX and size <= APPEND_BYTES_MAX
        if batch and not (fits and 2 * entries + audits + _WRITES_RESERVED <= COMMIT_WRITES_MAX):
            break
        waiting.popleft()
        if append.waits:
            batch.append(append)
        else:
            entries -= len(append.entries)
            size -= append.size
            audits -= append.audit is not None
    return batch


def _plan(
    appends: Sequence[Append], state: LogState, markers: Mapping[str, Marker], tries: _Tries, *, at: datetime
) -> Plan:
    known = Known(
        header=state.life.header, sequence=state.sequence, markers=markers, commit_ids=frozenset(tries.commit_ids)
    )
    planner = Planner(known, at=at)
    for append in appends:
        planner.add(Call(entries=append.entries, expected=append.expected))
    return planner.plan


def _nothing(now: datetime) -> LogState:
    """A log that is not there, to plan with."""
    header = Header(
        stage="making",
        epoch=0,
        stamp=0,
        settings_version=1,
        settings=LogSettings(),
        created_at=now,
        updated_at=now,
        touched_at=now,
    )
    return LogState(life=Life(header=header, version=0, token=None), sequence=0, touched_at=now)


def _audits(appends: Sequence[Append], plan: Plan) -> Sequence[Write]:
    """The records of those calls that write something."""
    return [
        audit_put(append.audit)
        for append, result in zip(appends, plan.results, strict=True)
        if append.audit is not None
        and not isinstance(result, PerdureError)
        and not all(one.duplicate for one in result)
    ]


def _answer(appends: Sequence[Append], plan: Plan, *, refusals_only: bool = False) -> None:
    for append, result in zip(appends, plan.results, strict=True):
        if isinstance(result, PerdureError):
            append.fail(result)
        elif append.waits and not refusals_only:
            append.answer.set_result(result)


def _give_up(appends: Sequence[Append], error: PerdureError, tries: _Tries) -> None:
    """Answer those whose time is over, or who would not live to see the next attempt that the engine asks for."""
    if tries.lost is not None and not isinstance(error, OutcomeUnknown):
        error = OutcomeUnknown(
            "an answer was lost, and the time was over before it was known whether the entries were appended; append "
            "the same entries again"
        )
    asked_s = error.detail.get("retry_after_s")
    least_s = max(BACKOFF_BASE_S, asked_s if isinstance(asked_s, int | float) else 0.0)
    for append in appends:
        if append.patience.left_s <= least_s:
            append.fail(error)
