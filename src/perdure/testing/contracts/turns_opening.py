"""What each part of the contract of turns stands on: a space that nobody used, and few words to talk in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Literal, TypeAlias

import pytest

from perdure.core.turn_store import Blobs, TurnParts
from perdure.domain.container import Container, Space
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import NO_TURN, TURNS_PAGE_MAX, Context, NewTurn, Turn, TurnRef, content_hash
from perdure.errors import NotFound
from perdure.ports.turns import TurnStore
from perdure.testing.contracts.stores import TIMEOUT_S, new_space

LOOKS_MAX: Final = 100  # a store of session consistency shows everything by then
FAR: Final = 10**6  # further than any test goes

Ability: TypeAlias = Literal[
    "counts_calls",
    "gives_keys_back",
    "has_blobs",
    "has_labels",
    "has_snapshots",
    "keeps_audits",
    "keeps_keys",
    "keeps_spaces_apart",
    "lists_bundles",
    "orders_clients",
    "removes_contexts",
    "tells_bases",
    "tells_times",
]

OpenTurns: TypeAlias = Callable[[], Awaitable[TurnStore]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """The turns of one space, as one client sees them."""

    store: TurnStore
    space: Space

    def seen_by(self, store: TurnStore) -> Talk:
        """The same space, in the hands of another client."""
        return replace(self, store=store)

    def beside(self, space: Space) -> Talk:
        """Another space."""
        return replace(self, space=space)

    async def create(
        self, base: str | None = None, *, labels: tuple[str, ...] = (), record: StoreAudit | None = None
    ) -> Context:
        """Make a context, at a turn if one is given."""
        return await self.store.create(self.space, base_turn_id=base, labels=labels, audit=record, timeout_s=TIMEOUT_S)

    async def begin(self, base: str | None = None) -> str:
        """The id of a new context."""
        return (await self.create(base)).context_id

    async def add(
        self, context_id: str, turn: NewTurn, *, rebase: bool = False, record: StoreAudit | None = None
    ) -> TurnRef:
        """Append a turn."""
        return await self.store.append(self.space, context_id, turn, rebase=rebase, audit=record, timeout_s=TIMEOUT_S)

    async def say(
        self, context_id: str, text: str, *, key: str | None = None, parent: str | None = None, rebase: bool = False
    ) -> str:
        """Append a turn that says something; its id."""
        said = turn(text.encode(), key=key, parent=parent)
        return (await self.add(context_id, said, rebase=rebase)).turn_id

    async def fill(self, context_id: str, count: int, *, prefix: str = "") -> list[str]:
        """Append many turns that count from 1; their ids."""
        return [await self.say(context_id, f"{prefix}{number}") for number in range(1, count + 1)]

    async def head(self, context_id: str) -> Context:
        """A context as it is now."""
        return await self.store.head(self.space, context_id, timeout_s=TIMEOUT_S)

    async def get(self, turn_id: str) -> Turn:
        """One turn."""
        return await self.store.get(self.space, turn_id, timeout_s=TIMEOUT_S)

    async def page(self, context_id: str, *, before: str | None = None, limit: int = TURNS_PAGE_MAX) -> list[Turn]:
        """One page."""
        found = await self.store.list(self.space, context_id, before_turn_id=before, limit=limit, timeout_s=TIMEOUT_S)
        return list(found)

    async def said(self, context_id: str, *, before: str | None = None, limit: int = TURNS_PAGE_MAX) -> list[str]:
        """What the turns of one page say."""
        return [turn.payload.decode() for turn in await self.page(context_id, before=before, limit=limit)]

    async def chain(self, context_id: str, *, limit: int = TURNS_PAGE_MAX) -> list[Turn]:
        """All turns of a context, page after page; they must be one chain that ends with the head."""
        found: list[Turn] = []
        before: str | None = None
        while before != NO_TURN:
            page = await self.page(context_id, before=before, limit=limit)
            assert len(page) <= limit
            if not page:
                break
            assert len(page) == min(limit, page[-1].depth)
            found = page + found
            before = page[0].turn_id
        check_chain(found)
        head = await self.head(context_id)
        assert (head.head_turn_id, head.head_depth) == ((found[-1].turn_id, len(found)) if found else (NO_TURN, 0))
        return found

    async def labelled(self, label: str | None, *, limit: int = 100) -> list[str]:
        """The ids of all contexts, or of a label's, page after page."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.store.contexts(self.space, label=label, cursor=cursor, limit=limit, timeout_s=TIMEOUT_S)
            assert len(page) <= limit
            found += [context.context_id for context in page]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def publish(self, bundle_id: str, bundle: bytes, *, record: StoreAudit | None = None) -> bool:
        """Publish a bundle."""
        return await self.store.publish_bundle(self.space, bundle_id, bundle, audit=record, timeout_s=TIMEOUT_S)

    async def bundle(self, bundle_id: str) -> bytes | None:
        """A bundle, if it is there."""
        return await self.store.find_bundle(self.space, bundle_id, timeout_s=TIMEOUT_S)

    async def bundles(self, *, limit: int) -> list[str]:
        """The ids of all bundles, page after page."""
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.store.bundles(self.space, after=cursor, limit=limit, timeout_s=TIMEOUT_S)
            assert len(page) <= limit
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def put(self, payload: bytes) -> str:
        """Keep a blob; its address."""
        return await self.store.put_blob(self.space, payload, timeout_s=TIMEOUT_S)

    async def blob(self, digest: str) -> bytes | None:
        """A blob, if it is there."""
        return await self.store.find_blob(self.space, digest, timeout_s=TIMEOUT_S)

    async def attach(self, turn_id: str, root: str, *, record: StoreAudit | None = None) -> None:
        """Attach a tree of files to a turn."""
        await self.store.attach(self.space, turn_id, root, audit=record, timeout_s=TIMEOUT_S)

    async def snapshot(self, turn_id: str) -> str | None:
        """The tree of files at a turn."""
        return await self.store.snapshot(self.space, turn_id, timeout_s=TIMEOUT_S)

    async def sees(self, context_id: str, depth: int) -> bool:
        """Whether this client sees a context, and its head as deep as that."""
        try:
            return (await self.head(context_id)).head_depth >= depth
        except NotFound:
            return False


class TurnsOpening(ABC):
    """A space of its own for every test, and what a store can do.

    A store that lacks an ability says so in its class, and the tests about it are passed over:

    * ``counts_calls``: ``calls`` grows by the name of every call of the backend beneath
    * ``gives_keys_back``: a turn that was read has its idempotency key
    * ``has_blobs``, ``has_labels``, ``has_snapshots``: those parts of the port
    * ``keeps_audits``: ``audits`` finds what was kept with commits
    * ``keeps_keys``: another client knows a key as well
    * ``keeps_spaces_apart``: there is more than one space
    * ``lists_bundles``: it says which bundles were published
    * ``orders_clients``: clients that append to one context at the same time make one chain
    * ``removes_contexts``: it is made of logs and rows, and ``turn_parts`` and ``turn_blobs`` give what it stands on
    * ``tells_bases``: a context that was looked up has its base
    * ``tells_times``: contexts and turns say when they were made
    """

    counts_calls: ClassVar[bool] = True
    gives_keys_back: ClassVar[bool] = True
    has_blobs: ClassVar[bool] = True
    has_labels: ClassVar[bool] = True
    has_snapshots: ClassVar[bool] = True
    keeps_audits: ClassVar[bool] = True
    keeps_keys: ClassVar[bool] = True
    keeps_spaces_apart: ClassVar[bool] = True
    lists_bundles: ClassVar[bool] = True
    orders_clients: ClassVar[bool] = True
    tells_bases: ClassVar[bool] = True
    tells_times: ClassVar[bool] = True

    deep: ClassVar[int] = 300
    """How many turns a long conversation has."""

    removes_contexts: bool = False

    looks_max: int = 1
    """After how many looks a client sees what another one did; above 1 where that is seen late."""

    @abstractmethod
    async def open_turns(self) -> TurnStore:
        """A store that is open; called again in one test, another client on the same data, as after a restart."""

    @abstractmethod
    async def advance(self, seconds: float) -> None:
        """Let so many seconds pass for every store opened in this test."""

    async def audits(self, container: Container) -> Sequence[StoreAudit]:
        """What was kept with the commits to a container; nothing where ``keeps_audits`` is false."""
        del container
        return ()

    def turn_parts(self, talk: Talk) -> TurnParts:
        """What a client's turns stand on; only where ``removes_contexts`` is true."""
        raise AssertionError(f"{type(talk.store).__name__} is not made of logs and rows")

    def turn_blobs(self) -> Blobs:
        """Where the clients' large payloads are; only where ``removes_contexts`` is true."""
        raise AssertionError("this store is not made of logs and rows")

    @pytest.fixture(autouse=True)
    def _counting(self) -> None:
        self.calls: list[str] = []

    @pytest.fixture
    async def talk(self) -> Talk:
        """A space in which nothing happened yet."""
        return Talk(store=await self.open_turns(), space=new_space())

    def needs(self, *abilities: Ability) -> None:
        """Skip the test where the store cannot do what it is about."""
        for ability in abilities:
            if not getattr(self, ability):
                pytest.skip(f"this store lacks what the test is about: {ability}")

    async def another(self, talk: Talk) -> Talk:
        """The same space in the hands of another client."""
        return talk.seen_by(await self.open_turns())

    async def reopened(self, talk: Talk, *seen: tuple[str, int]) -> Talk:
        """The same, as soon as that client sees these contexts as deep as these depths."""
        other = await self.another(talk)
        for context_id, depth in seen:
            await self.catch_up(other, context_id, depth)
        return other

    async def catch_up(self, talk: Talk, context_id: str, depth: int) -> None:
        """Look until what others did is seen, on a store that may show it late; on others it is seen at once."""
        for _ in range(self.looks_max - 1):
            if await talk.sees(context_id, depth):
                return

    async def count(self, asked: Awaitable[object]) -> list[str]:
        """The calls of the backend that something costs."""
        mark = len(self.calls)
        await asked
        return self.calls[mark:]


def turn(
    payload: bytes = b"{}",
    *,
    key: str | None = None,
    parent: str | None = None,
    type_id: str = "test.note",
    type_version: int = 1,
) -> NewTurn:
    """A turn with as few words as a test needs."""
    return NewTurn(
        type_id=type_id, type_version=type_version, payload=payload, idempotency_key=key, parent_turn_id=parent
    )


def check_chain(turns: Sequence[Turn]) -> None:
    """Assert that these are a whole conversation: depths from 1, each the parent of the next, each with its hash."""
    parent = NO_TURN
    for depth, found in enumerate(turns, start=1):
        assert (found.depth, found.parent_turn_id) == (depth, parent)
        assert found.content_hash == content_hash(found.payload)
        parent = found.turn_id


async def missing(asked: Awaitable[object]) -> tuple[object, object]:
    """What is not there, by the error that says so: resource and id."""
    with pytest.raises(NotFound) as caught:
        await asked
    resource, identity = caught.value.detail["resource"], caught.value.detail["id"]
    assert str(caught.value) == f"resource not found: {resource} ({identity})"
    return resource, identity


def further(identity: str, *, by: int = FAR) -> str:
    """An id that nobody has yet."""
    return str(int(identity) + by)
