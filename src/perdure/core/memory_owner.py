"""Whose memory is meant."""

from __future__ import annotations

from perdure.domain.container import check_part
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
