"""Any sequence of requests of two clients has the answers of a model: turns that know their parents, in a dict."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field

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

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.turn import NO_TURN, Context, NewTurn, Turn, TurnRef, content_hash
from perdure.errors import Invalid, KeyReused, NotFound, PerdureError
from perdure.ports.turns import TurnStore
from perdure.testing.contracts.stores import new_space
from perdure.testing.environment import fake_environment
from tests.contracts.document_stores import no_sleep
from tests.contracts.turn_stores import BlobsInMemory

TIMEOUT_S = 30.0
UNKNOWN = str(2**63)
CLIENTS = 2
CONTEXTS_MAX = 5  # so that most requests are about conversations, not about making them

clients = st.integers(0, CLIENTS - 1)
picks = st.integers(0, 15)  # which of the contexts so far, newest first, or one that is unknown
places = st.tuples(st.sampled_from([True, True, True, False]), st.integers(0, 15))  # of the chain, or of all turns
payloads = st.sampled_from([b"", b"a", b"b", b"x" * 65_537])
keys = st.sampled_from([None, None, "k1", "k2"])
labels = st.sampled_from([(), (), ("x",), ("x", "y"), ("xy",)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A turn of the model."""

    parent: str
    payload: bytes
    context_id: str


@dataclass(slots=True, kw_only=True)
class Talk:
    """A context of the model: its head, what it was made with, and by each key what was asked and what came of it."""

    head: str
    base: str
    labels: tuple[str, ...]
    keys: dict[str, tuple[NewTurn, str]] = field(default_factory=dict)


class Model:
    """The graph, in the plainest words."""

    def __init__(self) -> None:
        self.turns: dict[str, Said] = {}
        self.contexts: dict[str, Talk] = {}

    def chain(self, turn_id: str) -> list[str]:
        """Ids from the root to a turn."""
        found: list[str] = []
        while turn_id != NO_TURN:
            found.append(turn_id)
            turn_id = self.turns[turn_id].parent
        return found[::-1]

    def refuses_append(self, context_id: str, turn: NewTurn, *, rebase: bool) -> type[PerdureError] | None:
        """The error of an append, or None if it is done or was done before."""
        talk = self.contexts.get(context_id)
        if talk is None:
            return NotFound
        if turn.idempotency_key in talk.keys:
            return None if talk.keys[turn.idempotency_key][0] == turn else KeyReused
        parent = turn.parent_turn_id
        if parent is None:
            return None
        if parent not in self.turns:
            return NotFound
        return None if rebase or parent in self.chain(talk.head) else Invalid

    def page(self, context_id: str, before: str | None, limit: int) -> list[str] | type[PerdureError]:
        """The ids of a page, or its error."""
        if context_id not in self.contexts:
            return NotFound
        if before == NO_TURN or limit == 0:
            return []
        chain = self.chain(self.contexts[context_id].head)
        if before is not None:
            if before not in chain:
                return Invalid
            chain = chain[: chain.index(before)]
        return chain[-limit:]


class TurnsAndModel(RuleBasedStateMachine):
    """Both are asked the same; the clients share the data and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.loop = self.resources.enter_context(asyncio.Runner())
        self.space = new_space()
        self.model = Model()
        self.stores: list[TurnStore] = []

    @initialize()
    def open(self) -> None:
        self.loop.run(self._open())

    async def _open(self) -> None:
        data, blobs = MemoryStore(), BlobsInMemory()
        for number in range(CLIENTS):
            driver = MemoryDriver(data)
            await driver.open()
            environment = fake_environment(space=number)
            backend = DocumentBackend(driver, mode="lab", env="dev", environment=environment, sleep=no_sleep)
            parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=no_sleep)
            self.stores.append(StoredTurns(parts, blobs))

    def teardown(self) -> None:
        try:
            self.loop.run(self._look_before_every_turn())
        finally:
            self.resources.close()

    async def _look_before_every_turn(self) -> None:
        for context_id, talk in self.model.contexts.items():
            for turn_id in self.model.chain(talk.head):
                asked = self.stores[0].list(
                    self.space, context_id, before_turn_id=turn_id, limit=3, timeout_s=TIMEOUT_S
                )
                assert [turn.turn_id for turn in await asked] == self.model.page(context_id, turn_id, 3)

    def _context(self, pick: int) -> str:
        return pick_of(list(self.model.contexts), pick)

    def _turn(self, context_id: str, place: tuple[bool, int]) -> str:
        on_chain, pick = place
        if on_chain and context_id in self.model.contexts:
            chain = self.model.chain(self.model.contexts[context_id].head)
            return chain[-1 - pick % len(chain)] if chain else UNKNOWN
        return pick_of(list(self.model.turns), pick)

    @precondition(lambda self: len(self.model.contexts) < CONTEXTS_MAX)
    @rule(client=clients, context=picks, place=st.none() | places, labels=labels)
    def create(self, client: int, context: int, place: tuple[bool, int] | None, labels: tuple[str, ...]) -> None:
        base = NO_TURN if place is None else self._turn(self._context(context), place)
        asked = self.stores[client].create(self.space, base_turn_id=base, labels=labels, timeout_s=TIMEOUT_S)
        if base != NO_TURN and base not in self.model.turns:
            assert isinstance(self._refusal(asked), NotFound)
            return
        made = self.loop.run(asked)
        assert made.context_id not in self.model.contexts
        self.model.contexts[made.context_id] = Talk(head=base, base=base, labels=labels)
        self._is_as_in_the_model(made)

    @rule(
        client=clients,
        context=picks,
        payload=payloads,
        key=keys,
        parent=st.none() | places,
        rebase=st.booleans(),
    )
    def append(
        self,
        client: int,
        context: int,
        payload: bytes,
        key: str | None,
        parent: tuple[bool, int] | None,
        *,
        rebase: bool,
    ) -> None:
        context_id = self._context(context)
        named = None if parent is None else self._turn(context_id, parent)
        turn = NewTurn(type_id="t", type_version=1, payload=payload, idempotency_key=key, parent_turn_id=named)
        self._append(client, context_id, turn, rebase=rebase)

    @rule(client=clients, context=picks, back=st.integers(0, 3), count=st.integers(1, 4))
    def go_on_from_a_turn_of_the_chain(self, client: int, context: int, back: int, count: int) -> None:
        context_id = self._context(context)
        named = self._turn(context_id, (True, back))
        for number in range(count):
            parent = named if number == 0 else None
            turn = NewTurn(type_id="t", type_version=1, payload=bytes([number]), parent_turn_id=parent)
            self._append(client, context_id, turn, rebase=False)

    def _append(self, client: int, context_id: str, turn: NewTurn, *, rebase: bool) -> None:
        key, named = turn.idempotency_key, turn.parent_turn_id
        asked = self.stores[client].append(self.space, context_id, turn, rebase=rebase, timeout_s=TIMEOUT_S)
        refused = self.model.refuses_append(context_id, turn, rebase=rebase)
        if refused is not None:
            assert type(self._refusal(asked)) is refused
            return
        talk = self.model.contexts[context_id]
        ref = self.loop.run(asked)
        if key in talk.keys:
            assert (ref.replayed, ref.turn_id) == (True, talk.keys[key][1])
        else:
            assert (ref.replayed, ref.turn_id in self.model.turns) == (False, False)
            said = Said(parent=named or talk.head, payload=turn.payload, context_id=context_id)
            self.model.turns[ref.turn_id] = said
            talk.head = ref.turn_id
            if key is not None:
                talk.keys[key] = (turn, ref.turn_id)
        self._is_ref(ref, context_id)

    @rule(client=clients, context=picks, count=st.integers(2, 6))
    def append_at_the_same_time(self, client: int, context: int, count: int) -> None:
        context_id = self._context(context)
        if context_id not in self.model.contexts:
            return
        turns = [NewTurn(type_id="t", type_version=1, payload=bytes([number])) for number in range(count)]

        async def all_at_once() -> list[TurnRef]:
            asked = (
                self.stores[(client + number) % CLIENTS].append(self.space, context_id, turn, timeout_s=TIMEOUT_S)
                for number, turn in enumerate(turns)
            )
            return await asyncio.gather(*asked)

        told = self.loop.run(all_at_once())
        talk = self.model.contexts[context_id]
        for ref, turn in sorted(zip(told, turns, strict=True), key=lambda both: both[0].depth):
            self.model.turns[ref.turn_id] = Said(parent=talk.head, payload=turn.payload, context_id=context_id)
            talk.head = ref.turn_id
            self._is_ref(ref, context_id)

    @rule(
        client=clients,
        context=picks,
        before=st.none() | st.just(NO_TURN) | places,
        limit=st.integers(0, 9),
    )
    def read(self, client: int, context: int, before: tuple[bool, int] | str | None, limit: int) -> None:
        context_id = self._context(context)
        cursor = self._turn(context_id, before) if isinstance(before, tuple) else before
        asked = self.stores[client].list(
            self.space, context_id, before_turn_id=cursor, limit=limit, timeout_s=TIMEOUT_S
        )
        expected = self.model.page(context_id, cursor, limit)
        if isinstance(expected, type):
            assert type(self._refusal(asked)) is expected
            return
        turns = self.loop.run(asked)
        assert [turn.turn_id for turn in turns] == expected
        for turn in turns:
            self._is_turn(turn)

    @rule(client=clients, context=picks, place=places)
    def get(self, client: int, context: int, place: tuple[bool, int]) -> None:
        turn_id = self._turn(self._context(context), place)
        asked = self.stores[client].get(self.space, turn_id, timeout_s=TIMEOUT_S)
        if turn_id not in self.model.turns:
            assert isinstance(self._refusal(asked), NotFound)
            return
        self._is_turn(self.loop.run(asked))

    @rule(client=clients, label=st.sampled_from(["x", "y", "xy", "nobody's"]))
    def find(self, client: int, label: str) -> None:
        asked = self.stores[client].contexts(self.space, label=label, limit=100, timeout_s=TIMEOUT_S)
        found = self.loop.run(asked)
        expected = sorted(int(one) for one, talk in self.model.contexts.items() if label in talk.labels)
        assert [int(context.context_id) for context in found] == expected
        for context in found:
            self._is_as_in_the_model(context)

    @invariant()
    def every_conversation_is_as_in_the_model(self) -> None:
        self.loop.run(self._look_at_all())

    async def _look_at_all(self) -> None:
        for context_id, talk in self.model.contexts.items():
            store = self.stores[int(context_id) % CLIENTS]
            self._is_as_in_the_model(await store.head(self.space, context_id, timeout_s=TIMEOUT_S))
            turns = await store.list(self.space, context_id, limit=500, timeout_s=TIMEOUT_S)
            assert [turn.turn_id for turn in turns] == self.model.chain(talk.head)

    def _refusal(self, asked: object) -> PerdureError:
        async def ask() -> PerdureError | None:
            try:
                await asked  # type: ignore[misc]  # a coroutine of the store
            except PerdureError as error:
                return error
            return None

        refusal = self.loop.run(ask())
        assert refusal is not None
        return refusal

    def _is_as_in_the_model(self, context: Context) -> None:
        talk = self.model.contexts[context.context_id]
        assert (context.head_turn_id, context.base_turn_id, context.labels) == (talk.head, talk.base, talk.labels)
        assert context.head_depth == len(self.model.chain(talk.head))

    def _is_ref(self, ref: TurnRef, context_id: str) -> None:
        said = self.model.turns[ref.turn_id]
        assert (ref.context_id, ref.depth) == (context_id, len(self.model.chain(ref.turn_id)))
        assert ref.content_hash == content_hash(said.payload)

    def _is_turn(self, turn: Turn) -> None:
        said = self.model.turns[turn.turn_id]
        assert (turn.parent_turn_id, turn.payload, turn.context_id) == (said.parent, said.payload, said.context_id)
        assert turn.depth == len(self.model.chain(turn.turn_id))


def pick_of(known: list[str], pick: int) -> str:
    """One of what is known; one that is not, if nothing is, and sometimes otherwise."""
    return UNKNOWN if not known or pick % 8 == 7 else known[-1 - pick % len(known)]


def test_turns_answer_as_the_model_does() -> None:
    budget = settings(
        max_examples=20,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    run_state_machine_as_test(TurnsAndModel, settings=budget)
