"""What the plane asks before it lets anybody into a routed store: is there such a tenant, and is the user a member."""

from __future__ import annotations

from typing import Protocol

from perdure.domain.scope import Scope


class Admission(Protocol):
    """Who may act for which tenant. It is asked of the ledger, wherever the data itself is kept."""

    async def admit(self, scope: Scope) -> None:
        """Return if the scope's tenant is known and its user, if one is named, is a member of it; write nothing else.

        In lab a tenant is made on first use; elsewhere an unknown one is ``Refused`` (``unknown_tenant``). A user who
        is not a member is ``Forbidden`` (``not_a_member``), and no tenant is made for one.
        """
        ...
