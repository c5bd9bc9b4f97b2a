"""What a request to a store of objects may look like: every store asks here first, before it sends anything."""

from __future__ import annotations

from perdure.domain.container import Space
from perdure.domain.ids import check_tenant
from perdure.domain.object import OBJECTS_PAGE_MAX, check_digest, check_media_type
from perdure.errors import Invalid, LimitExceeded


def check_space(space: Space, *, mode: str, env: str) -> None:
    """Raise ``Invalid`` unless a store of this (mode, env) may keep what is in the space."""
    if (space.mode, space.env) != (mode, env):
        raise Invalid(
            f"objects of ({space.mode}, {space.env}) in a store of ({mode}, {env}); each has stores of its own"
        )


def check_put(expected_digest: str | None, media_type: str) -> None:
    """Raise unless an object may be put under this address, if one is expected, and called this."""
    if expected_digest is not None:
        check_digest(expected_digest)
    check_media_type(media_type)


def check_list(after: str | None, limit: int) -> None:
    """Raise unless this page may be asked for."""
    if after is not None:
        check_digest(after)
    _check_page(limit, "objects")


def check_spaces_page(tenant: str, limit: int) -> None:
    """Raise unless this page of the spaces of a tenant may be asked for."""
    check_tenant(tenant)
    _check_page(limit, "spaces")


def _check_page(limit: int, what: str) -> None:
    if limit < 1:
        raise Invalid(f"{limit} {what} in one page; ask for at least 1")
    if limit > OBJECTS_PAGE_MAX:
        raise LimitExceeded(
            f"{limit} {what} in one page; at most {OBJECTS_PAGE_MAX} (objects_page_max)",
            limit="objects_page_max",
            allowed=OBJECTS_PAGE_MAX,
            actual=limit,
        )
