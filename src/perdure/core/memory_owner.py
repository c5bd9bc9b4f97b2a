"""Whose memory is meant, and what there is of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from perdure.core.stores import Stores
from perdure.domain.container import SESSIONS, Container, check_part
from perdure.domain.kinds import Kind
from perdure.domain.log import READ_ENTRIES_MAX
from perdure.domain.scope import Scope
from perdure.errors import Forbidden, Invalid


def owner_of(scope: Scope, user: str | None) -> str:
    """The user whose memory is meant: the one named, or the scope's own.

    Raises ``Invalid`` if there is neither, and ``Forbidden`` (``identity_override``) if they differ.
    """
    own = None if scope.user_id is None else str(scope.user_id)
    if user is None and own is None:
        raise Invalid("memory belongs to a user; pass user=, or make the scope with user=")
    if user is not None and own is not None and user != own:
        raise Forbidden(
            "this scope was made for one user and another one's memory was asked for; use a scope of that user",
            code="identity_override",
            fields=["user_id"],
        )
    return check_part(user if user is not None else str(own), what="a user")


async def owned_by(
    user: str, scope: Scope, what: Literal["session", "board"], *, stores: Stores, timeout_s: float | None
) -> Sequence[Container]:
    """All sessions, or all sets of blackboards, of a user in a scope.

    From one backend: led elsewhere between two pages, the second would be of another order.
    """
    owned: list[Container] = []
    mark: str | None = None
    async with stores.reading(scope, Kind.MEMORY, timeout_s=timeout_s) as call:
        store = call.backend.logs if what == SESSIONS else call.backend.rows
        while True:
            found, mark = await store.containers(
                Kind.MEMORY, scope.tenant, user=user, after=mark, limit=READ_ENTRIES_MAX, timeout_s=call.timeout_s
            )
            owned += [each for each in found if each.space == scope.space and each.name[0] == what]
            if mark is None:
                return owned
