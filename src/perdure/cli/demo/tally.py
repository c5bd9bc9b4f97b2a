"""Counting the ledger by reading its event log, and comparing that with git and with the receiver. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from perdure.cli.demo.worker import VERDICT
from perdure.domain.event import Event, EventType

_RUN_ENDS: Final = frozenset({EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})
_EFFECT_ENDS: Final = frozenset({EventType.EFFECT_COMPLETED, EventType.EFFECT_DEAD_LETTERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What should be there and is not; everything is 0 when nothing was lost."""

    commits_without_run: int
    runs_unfinished: int
    effects_not_received: int
    events_missing: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.commits_without_run + self.runs_unfinished + self.effects_not_received + self.events_missing


@dataclass(slots=True, kw_only=True)
class RunSeen:
    """What the events say of a run so far."""

    correlation_id: UUID
    steps: int = 0
    sources: set[str] = field(default_factory=set)
    effects: int = 0
    judged: bool = False
    ended: bool = False


class Tally:
    """The counts of a tenant, event by event."""

    def __init__(self) -> None:
        self.number = 0
        self.events = 0
        self.signals = 0
        self.steps = 0
        self.tool_calls = 0
        self.runs: dict[str, RunSeen] = {}
        self.requested: dict[str, str] = {}
        """Idempotency key of each effect that was requested, by its id."""
        self.settled_effects: set[str] = set()
        self._sources: dict[str, tuple[str, str]] = {}
        self._taken_up: set[tuple[str, str]] = set()

    def add(self, event: Event) -> None:
        """Count the next event."""
        self.number = event.sequence_number
        self.events += 1
        data = event.event_data
        match event.event_type:
            case EventType.SIGNAL_RECEIVED:
                self.signals += 1
                self._sources[data["signal_id"]] = (data["source_channel"], data["source_id"])
            case EventType.RUN_STARTED:
                self.runs[data["run_id"]] = RunSeen(correlation_id=event.correlation_id)
                self._taken_up.add(self._sources.get(data["signal_id"], ("", "")))
            case EventType.STEP_STARTED:
                self._add_step(event)
            case EventType.TOOL_CALLED:
                self.tool_calls += 1
            case EventType.EFFECT_REQUESTED:
                self.requested[data["effect_id"]] = data["idempotency_key"]
                self.runs[data["run_id"]].effects += 1
            case ended if ended in _EFFECT_ENDS:
                self.settled_effects.add(data["effect_id"])
            case EventType.EFFECT_RETRYING:
                self.settled_effects.discard(data["effect_id"])  # an operator revived it
            case ended if ended in _RUN_ENDS:
                self.runs[data["run_id"]].ended = True
            case _:
                pass

    def _add_step(self, event: Event) -> None:
        self.steps += 1
        run = self.runs[event.event_data["run_id"]]
        run.steps += 1
        run.sources.add(event.source)
        run.judged = run.judged or event.event_data["step_key"] == VERDICT

    @property
    def to_judge(self) -> int:
        """Runs that a worker still has to do something about."""
        return sum(not (run.judged or run.ended) for run in self.runs.values())

    @property
    def unfinished(self) -> int:
        """Runs that have not ended, be it only because their effects are on the way."""
        return sum(not run.ended for run in self.runs.values())

    @property
    def undelivered(self) -> int:
        """Effects that are still on their way."""
        return len(self.requested) - len(self.settled_effects)

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not (self.unfinished or self.undelivered)

    @property
    def taken_over(self) -> int:
        """Runs that one process began and another one went on with."""
        return sum(len(run.sources) > 1 for run in self.runs.values())

    def has_run(self, channel: str, source_id: str) -> bool:
        """Whether a run took up the signal of that name."""
        return (channel, source_id) in self._taken_up

    def delivered(self, received: frozenset[str]) -> int:
        """How many of the requested effects have arrived."""
        return len(received.intersection(self.requested.values()))

    def losses(self, hashes: Iterable[str], *, received: frozenset[str], last_number: int) -> Losses:
        """Compare: each commit has a run, each run has ended, each effect has arrived, each number has its event."""
        return Losses(
            commits_without_run=sum(not self.has_run("git", one) for one in hashes),
            runs_unfinished=self.unfinished,
            effects_not_received=len(set(self.requested.values()) - received),
            events_missing=last_number - self.events,
        )

    def worth_telling(self) -> UUID | None:
        """The correlation of the run with the best story: one with an effect, taken over if possible, the latest."""
        best = max(
            enumerate(self.runs.values()),
            key=lambda place: (place[1].effects > 0, len(place[1].sources) > 1, place[1].ended, place[0]),
            default=None,
        )
        return None if best is None else best[1].correlation_id
