"""The ledger's clock in the hands of a test: leases run out and retries come due without anybody waiting."""

from __future__ import annotations

import math
from datetime import datetime

import psycopg
from psycopg import sql

from perdure.errors import Invalid

__all__ = ["DatabaseClock"]

_INSTANT = sql.SQL("CREATE OR REPLACE FUNCTION perdure.instant() RETURNS timestamptz LANGUAGE sql VOLATILE AS {body}")
_TRUE_TIME = "SELECT clock_timestamp()"


class DatabaseClock:
    """Moves the time that the ledger goes by, for every connection to one database.

    The ledger reads the time from one function, ``perdure.instant()``; this replaces it, so ``dsn`` must be that of the
    owner or a superuser. Never point it at a database that matters. Time goes on from where it is moved to.
    """

    def __init__(self, owner_dsn: str) -> None:
        self._dsn = owner_dsn
        self._ahead_s = 0.0

    def __repr__(self) -> str:
        return f"DatabaseClock(ahead_s={self._ahead_s})"  # without the DSN, which may hold a password

    @property
    def ahead_s(self) -> float:
        """How far ahead of the real time it is, in seconds."""
        return self._ahead_s

    async def advance(self, seconds: float) -> None:
        """Moves time forward by that much, on top of earlier moves; in force once this returns.

        Raises:
            Invalid: a negative or infinite number; time does not go back, except by ``reset``.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise Invalid(f"cannot advance by {seconds} seconds; expected a finite number from 0 on")
        ahead_s = self._ahead_s + seconds
        await self._replace(f"{_TRUE_TIME} + interval '{ahead_s:.6f} seconds'")
        self._ahead_s = ahead_s

    async def reset(self) -> None:
        """Gives the database its real time back."""
        await self._replace(_TRUE_TIME)
        self._ahead_s = 0.0

    async def now(self) -> datetime:
        """What the ledger takes for the present."""
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            row = await (await connection.execute("SELECT perdure.instant()")).fetchone()
        assert row is not None, "a function call always returns a row"
        moment: datetime = row[0]
        return moment

    async def _replace(self, body: str) -> None:
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await connection.execute(_INSTANT.format(body=sql.Literal(body)))
