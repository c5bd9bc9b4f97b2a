"""Who may use a store, asked of the ledger's database."""

from __future__ import annotations

from perdure.adapters.postgres.session import Session
from perdure.adapters.postgres.statements import statement
from perdure.domain.scope import Scope


class PostgresAdmission:
    """An ``Admission`` over a session of the app role."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def admit(self, scope: Scope) -> None:
        """As the port promises, in one round trip."""
        asked = {"tenant_id": scope.tenant_id, "tenant": scope.tenant, "user_id": scope.user_id}
        # Not counted as writing: a tenant that is made twice is made once, so a lost answer needs no other advice.
        async with self._session.connection(writing=False) as connection:
            await connection.execute(statement("admission/admit"), asked)
