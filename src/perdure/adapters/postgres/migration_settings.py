"""Which plane a ledger database serves: exactly one mode and env, recorded by its first migration."""

from __future__ import annotations

import re

from perdure.adapters.postgres.migration_session import Connection, table_exists
from perdure.errors import Invalid, Refused

__all__ = ["Settings", "checked", "settings"]

Settings = tuple[str | None, str | None]
"""Mode and env, or None where nothing says them and nothing needs them."""

_MODES = ("lab", "saas", "enterprise")
_ENV = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def checked(mode: str | None, env: str | None) -> Settings:
    """The two as they are.

    Raises:
        Invalid: one of them is no mode or no name.
    """
    if mode is not None and mode not in _MODES:
        raise Invalid(f"mode {mode!r} does not exist; expected one of {', '.join(_MODES)}")
    if env is not None and not _ENV.fullmatch(env):
        raise Invalid(f"env {env!r} is not a name; expected up to 63 of a-z, 0-9, _ and -, beginning with a letter")
    return mode, env


async def settings(connection: Connection, *, mode: str | None, env: str | None, needed: bool) -> Settings:
    """What the database serves, or what the first installation is told to record; ``needed`` if one is to be made.

    Raises:
        Invalid: one of them is no mode or no name.
        Refused: the database serves another plane, or nothing says which one a new database is for.
    """
    checked(mode, env)
    recorded = await _recorded(connection)
    if recorded is None:
        if needed and (mode is None or env is None):
            raise Refused(
                "the first installation records the mode and env that this database will serve; say them: "
                "perdure migrate --mode lab|saas|enterprise --env NAME",
                code="plane_settings_missing",
            )
        return mode, env
    if (mode or recorded[0], env or recorded[1]) != recorded:
        raise Refused(
            f"this database serves mode {recorded[0]!r} and env {recorded[1]!r}, not {mode!r} and {env!r}; one ledger "
            "database serves one of each: use another database",
            code="plane_settings_differ",
        )
    return recorded


async def _recorded(connection: Connection) -> tuple[str, str] | None:
    if not await table_exists(connection, "plane_settings"):
        return None
    row = await (await connection.execute(b"SELECT mode, env FROM perdure.plane_settings")).fetchone()
    return None if row is None else (row[0], row[1])
