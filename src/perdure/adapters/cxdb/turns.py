"""Turns kept by a CXDB server, of any generation, as ``perdure.ports.turns.TurnStore``.

What servers lack is made up for here, or refused; each method says so. A depth counts from 0 in the
protocol and from 1 in the port. Servers know no tenants, so a store has one space and refuses all others. They keep no
audit records: ``audit`` is recorded by whoever watches the calls, not in the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from perdure.adapters.cxdb.appending import TurnAppender
from perdure.adapters.cxdb.bundles import bundle_of, digest_in, is_bundle
from perdure.adapters.cxdb.chain import Chains
from perdure.adapters.cxdb.codec.responses import ContextHead
from perdure.adapters.cxdb.failures import missing
from perdure.adapters.cxdb.reading import TurnReader
from perdure.adapters.cxdb.remote import Deadline, Remote
from perdure.domain.container import Space
from perdure.domain.object import check_digest
from perdure.domain.records import Page
from perdure.domain.store_audit import StoreAudit
from perdure.domain.turn import (
    CONTEXTS_PAGE_MAX,
    NO_TURN,
    TURNS_PAGE_MAX,
    Context,
    NewTurn,
    Turn,
    TurnRef,
    check_bundle,
    check_bundle_id,
    check_labels,
    check_page,
    check_turn,
    content_hash,
    parse_id,
)
from perdure.errors import Conflict, Forbidden, Invalid, KeyReused, NotFound, PersistenceError, Unsupported

Keys: TypeAlias = Literal["durable", "memory"]

DEDUPE_TURNS_MAX: Final = 10_000  # keys of one context that are known; reading as many turns takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """How a store makes up for what a server lacks; none of it matters at our own.

    ``dedupe_turns_max`` turns of a context are read for their keys when it is appended to first. ``keys`` ``durable``
    refuses a key that the payload does not carry; ``memory`` takes it, and forgets it with this client.
    ``forks_to_look`` finds a turn that no list showed by forking it, which leaves a context behind.
    """

    dedupe_turns_max: int = DEDUPE_TURNS_MAX
    keys: Keys = "durable"
    forks_to_look: bool = True

    def __post_init__(self) -> None:
        if self.dedupe_turns_max < 1:
            raise Invalid(f"dedupe_turns_max is {self.dedupe_turns_max}; expected at least 1")


class CxdbTurns:
    """The turns of one space.

    Two clients that append with one key to one context at the same time make two turns, except at a server of ours.
    """

    def __init__(self, remote: Remote, *, space: Space, settings: TurnSettings | None = None) -> None:
        settings = settings or TurnSettings()
        self._remote = remote
        self._space = space
        self._chains = Chains(remote)
        self._reader = TurnReader(remote, self._chains, forks_to_look=settings.forks_to_look)
        self._appender = TurnAppender(
            remote,
            self._chains,
            self._reader,
            dedupe_turns_max=settings.dedupe_turns_max,
            keys_in_memory=settings.keys == "memory",
        )

    async def create(
        self,
        space: Space,
        *,
        base_turn_id: str | None = None,
        labels: tuple[str, ...] = (),
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Context:
        """Make a context; one message. Labels are ``Unsupported``: here they are metadata of the first record."""
        del audit
        self._check_space(space)
        base = parse_id(NO_TURN if base_turn_id is None else base_turn_id, what="a turn's id")
        if check_labels(labels):
            raise Unsupported(
                "a CXDB server takes the labels of a context from the metadata of its first record, not from whoever "
                "makes it; append a record that has them"
            )
        head = await self._remote.create(base, deadline=self._remote.deadline(timeout_s))
        self._appender.remember_new(head.context_id, base=base)
        return _context(head, base=base)

    async def append(
        self,
        space: Space,
        context_id: str,
        turn: NewTurn,
        *,
        rebase: bool = False,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> TurnRef:
        """Append a turn; one message where the context is known and no parent is named."""
        del audit
        self._check_space(space)
        number = parse_id(context_id, what="a context's id")
        check_turn(turn)
        return await self._appender.append(number, turn, rebase=rebase, deadline=self._remote.deadline(timeout_s))

    async def head(self, space: Space, context_id: str, *, timeout_s: float) -> Context:
        """The context as it is now. A server does not tell what it was made with."""
        self._check_space(space)
        number = parse_id(context_id, what="a context's id")
        return _context(await self._remote.head(number, deadline=self._remote.deadline(timeout_s)))

    async def get(self, space: Space, turn_id: str, *, timeout_s: float) -> Turn:
        """One turn. Raises ``Unsupported`` where only a fork would find it and forks are not allowed."""
        self._check_space(space)
        number = parse_id(turn_id, what="a turn's id")
        return await self._reader.turn(number, deadline=self._remote.deadline(timeout_s))

    async def list(
        self, space: Space, context_id: str, *, before_turn_id: str | None = None, limit: int, timeout_s: float
    ) -> Sequence[Turn]:
        """A page of the chain, oldest first. A turn's context is where this client saw it first."""
        self._check_space(space)
        number = parse_id(context_id, what="a context's id")
        before = None if before_turn_id is None else parse_id(before_turn_id, what="a turn's id")
        check_page(limit, name="turns_page_max", allowed=TURNS_PAGE_MAX, of="turns")
        deadline = self._remote.deadline(timeout_s)
        items = await self._reader.page(number, before=before, limit=limit, deadline=deadline)
        return tuple(self._reader.as_turn(item, context_id=number) for item in items)

    async def contexts(
        self, space: Space, *, label: str | None = None, cursor: str | None = None, limit: int, timeout_s: float
    ) -> Page[Context]:
        """Contexts in the order of their ids; those of a label are those whose first record says it.

        Each page asks for all of them, because a list of servers has no way to go on. Raises ``LimitExceeded`` above
        999: contexts of the server, or of the label.
        """
        self._check_space(space)
        check_page(limit, name="contexts_page_max", allowed=CONTEXTS_PAGE_MAX, of="contexts")
        after = 0 if cursor is None else parse_id(cursor, what="a cursor of contexts")
        labels = () if label is None else check_labels((label,))
        if limit == 0:
            return Page(items=(), next_cursor=cursor)
        http = self._remote.require_http("listing contexts")
        found = await (http.search(labels[0], timeout_s=timeout_s) if labels else http.contexts(timeout_s=timeout_s))
        rest = [head for head in found if head.context_id > after]
        items = tuple(_context(head) for head in rest[:limit])
        return Page(items=items, next_cursor=items[-1].context_id if len(rest) > limit else None)

    async def publish_bundle(
        self, space: Space, bundle_id: str, bundle: bytes, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> bool:
        """Publish a registry bundle, so that the server shows typed turns; or keep a document as if it were one.

        Raises ``Invalid`` or ``Conflict`` for a bundle that contradicts what is published.
        """
        del audit
        self._check_space(space)
        check_bundle(bundle_id, bundle)
        deadline = self._remote.deadline(timeout_s)
        http = self._remote.require_http("a registry bundle")
        body = bundle
        if not is_bundle(bundle_id, bundle):
            body = bundle_of(bundle_id, await self._remote.put_blob(bundle, deadline=deadline))
        try:
            return await http.put_bundle(bundle_id, body, timeout_s=deadline.left_s)
        except (Conflict, Invalid) as exc:
            kept = await self._find_bundle(bundle_id, deadline=deadline)
            if kept is None:
                raise
            if kept == bundle:
                return False
            raise KeyReused(
                f"bundle {bundle_id} is published with other bytes ({content_hash(kept)}, now {content_hash(bundle)}); "
                "give the changed one another id",
                bundle_id=bundle_id,
            ) from exc

    async def find_bundle(self, space: Space, bundle_id: str, *, timeout_s: float) -> bytes | None:
        """A bundle as it was published."""
        self._check_space(space)
        check_bundle_id(bundle_id)
        return await self._find_bundle(bundle_id, deadline=self._remote.deadline(timeout_s))

    async def bundles(self, space: Space, *, after: str | None = None, limit: int, timeout_s: float) -> Page[str]:
        """Raises ``Unsupported``: servers do not list what is published."""
        del after, limit, timeout_s
        self._check_space(space)
        raise Unsupported("a CXDB server does not list its registry bundles; ask for each by its id")

    async def put_blob(self, space: Space, payload: bytes, *, timeout_s: float) -> str:
        """Keep bytes by their address, at most what a frame holds."""
        self._check_space(space)
        return await self._remote.put_blob(payload, deadline=self._remote.deadline(timeout_s))

    async def find_blob(self, space: Space, digest: str, *, timeout_s: float) -> bytes | None:
        """The bytes of an address, verified."""
        self._check_space(space)
        return await self._remote.blob(check_digest(digest), deadline=self._remote.deadline(timeout_s))

    async def attach(
        self, space: Space, turn_id: str, root: str, *, audit: StoreAudit | None = None, timeout_s: float
    ) -> None:
        """Say which tree of files there was at a turn."""
        del audit
        self._check_space(space)
        number = parse_id(turn_id, what="a turn's id")
        await self._remote.attach(number, check_digest(root), deadline=self._remote.deadline(timeout_s))

    async def snapshot(self, space: Space, turn_id: str, *, timeout_s: float) -> str | None:
        """The root attached nearest to a turn. A server tells it of a root that is a tree, and fails for others."""
        self._check_space(space)
        number = parse_id(turn_id, what="a turn's id")
        http = self._remote.require_http("the tree of files at a turn")
        try:
            root = await http.fs_root(number, timeout_s=timeout_s)
        except NotFound as exc:
            raise missing("turn", number) from exc
        try:
            return None if root is None else check_digest(root)
        except Invalid as exc:
            raise PersistenceError("the server's fs_root_hash is no address; is it a CXDB server?") from exc

    async def _find_bundle(self, bundle_id: str, *, deadline: Deadline) -> bytes | None:
        http = self._remote.require_http("a registry bundle")
        bundle = await http.find_bundle(bundle_id, timeout_s=deadline.left_s)
        digest = None if bundle is None else digest_in(bundle)
        if digest is None:
            return bundle
        return await self._remote.blob(digest, deadline=deadline)

    def _check_space(self, space: Space) -> None:
        if space != self._space:
            raise Forbidden(
                "a CXDB server keeps one space apart from nothing, so this store serves the one that it was given; "
                "give every tenant, project, surface and app a server of its own"
            )


def _context(head: ContextHead, *, base: int = 0) -> Context:
    return Context(
        context_id=str(head.context_id),
        head_turn_id=str(head.head_turn_id),
        head_depth=head.head_depth + 1 if head.head_turn_id else 0,
        base_turn_id=str(base),
    )
