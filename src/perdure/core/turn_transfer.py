"""Contexts out of a store and into one, and what two of them have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from perdure.core.turns import Turns, page_that_fits
from perdure.domain.turn import NO_TURN, Context, Turn
from perdure.domain.turn_transfer import TransferHead, TransferReader, TransferWriter
from perdure.errors import LimitExceeded

TRANSFER_PAGE: Final = 64  # turns in memory at once, whose payloads may be large
DIFFERENT_TURNS_MAX: Final = 10_000  # on each side of a comparison; more is no difference to look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two contexts compared: the last turn they share (None if they share none), and what each has after it."""

    common: Turn | None
    ours: tuple[Turn, ...]
    theirs: tuple[Turn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did. ``replayed`` turns were there already, from an import that was interrupted."""

    context: Context
    appended: int
    replayed: int


async def compare(turns: Turns, ours: str, theirs: str) -> Difference:
    """What two contexts share and where they part; costs what they differ by, not what they are long.

    Raises ``NotFound``, and ``LimitExceeded`` above ``different_turns_max`` turns on a side.
    """
    left, right = _Side(turns, ours), _Side(turns, theirs)
    await left.start()
    await right.start()
    while left.turn is not None and right.turn is not None and left.turn.turn_id != right.turn.turn_id:
        # Of the same depth: neither can be the other's ancestor.
        deeper = left if left.turn.depth >= right.turn.depth else right
        await deeper.step()
    common = left.turn if left.turn is not None and right.turn is not None else None
    for side in (left, right):
        while common is None and side.turn is not None:
            await side.step()
    return Difference(common=common, ours=tuple(reversed(left.passed)), theirs=tuple(reversed(right.passed)))


class _Side:
    """One context, walked from its head."""

    def __init__(self, turns: Turns, context_id: str) -> None:
        self._walk = turns.iterate(context_id)
        self.passed: list[Turn] = []
        self.turn: Turn | None = None

    async def start(self) -> None:
        """Look at the head."""
        self.turn = await anext(self._walk, None)

    async def step(self) -> None:
        """Go to the turn before."""
        assert self.turn is not None, "there is one to pass"
        self.passed.append(self.turn)
        if len(self.passed) > DIFFERENT_TURNS_MAX:
            raise LimitExceeded(
                f"the two differ by more than {DIFFERENT_TURNS_MAX} turns (different_turns_max)",
                limit="different_turns_max",
                allowed=DIFFERENT_TURNS_MAX,
                actual=len(self.passed),
            )
        self.turn = await anext(self._walk, None)


async def export_lines(turns: Turns, context_id: str) -> AsyncIterator[bytes]:
    """A context as lines of a file, oldest turn first: as its head was when this began.

    Pages of a chain come newest first, so it is walked twice: once for where its pages begin, and once to write them.
    Raises ``NotFound``, and ``Invalid`` if the head was led back meanwhile, behind where it was.
    """
    head = await turns.head(context_id)
    writer = TransferWriter()
    yield writer.head(context_id=head.context_id, labels=head.labels)
    if head.head_turn_id != NO_TURN:
        newest = await turns.get(head.head_turn_id)
        for before, count in reversed(await _pages(turns, context_id, newest)):
            for turn in await turns.list(context_id, before=before, limit=count):
                yield writer.turn(turn)
        yield writer.turn(newest)
    yield writer.end()


async def _pages(turns: Turns, context_id: str, newest: Turn) -> Sequence[tuple[str, int]]:
    """The cursor and the size of each page before the newest turn, newest first."""
    pages: list[tuple[str, int]] = []
    oldest = newest
    while oldest.parent_turn_id != NO_TURN:
        page = await page_that_fits(turns, context_id, before=oldest.turn_id, limit=TRANSFER_PAGE)
        pages.append((oldest.turn_id, len(page)))
        oldest = page[0]
    return pages


async def import_lines(
    turns: Turns,
    lines: Iterable[bytes],
    *,
    into: str | None = None,
    begun: Callable[[Context], object] | None = None,
) -> Imported:
    """Append what ``export_lines`` gave to a new context, or to ``into``; ``begun`` is told which, before the first.

    Every turn has a key, so an import that was interrupted is done again into the same context: what is there is not
    appended twice. A file that is not whole is ``Corrupt`` when its end is reached; read it through a
    ``TransferReader`` before if nothing is to be written of such a file.
    """
    reader = TransferReader()
    context: Context | None = None
    appended = replayed = 0
    for line in lines:
        found = reader.read(line)
        if isinstance(found, TransferHead):
            context = await turns.create(labels=found.labels) if into is None else await turns.head(into)
            if begun is not None:
                begun(context)
        elif found is not None:
            assert context is not None, "the head is the first line"
            ref = await turns.append(
                context.context_id,
                found.payload,
                type_id=found.type_id,
                type_version=found.type_version,
                idempotency_key=found.idempotency_key,
            )
            appended += not ref.replayed
            replayed += ref.replayed
    reader.finish()
    assert context is not None, "a file that has an end has a head"
    return Imported(context=await turns.head(context.context_id), appended=appended, replayed=replayed)
