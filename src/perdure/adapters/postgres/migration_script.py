"""The migrations as one psql script, for administrators who let no program near their database's schema."""

from __future__ import annotations

from pathlib import Path

from perdure.adapters.postgres.migrate import SCHEMA_MIGRATIONS_SQL
from perdure.adapters.postgres.migration_files import MIGRATIONS, Migration, chosen, load_migrations
from perdure.adapters.postgres.migration_session import ADVISORY_LOCK, CONTEXT_SQL, ROLES_SQL
from perdure.adapters.postgres.migration_settings import checked

__all__ = ["render_sql"]

_HEAD = """\
-- Perdure's schema, up to migration {head}. Run it with psql as a superuser, or as a role with CREATEROLE that owns the
-- database, on a direct connection (no pooler):
--
--     psql --no-psqlrc --dbname DSN --file THIS_FILE
--
-- Each migration is one transaction and is skipped where it is already applied, so that the script can be run again.
\\set ON_ERROR_STOP on

-- 1. The roles. This part alone needs an administrator; the rest runs as perdure_owner.
BEGIN;
SELECT pg_catalog.pg_advisory_xact_lock({lock});
{roles}COMMIT;
"""

_STEP = """
-- {number}. {migration}
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT pg_catalog.pg_advisory_xact_lock({lock});
{context}{ledger}SELECT NOT EXISTS (
    SELECT FROM perdure.schema_migrations WHERE version = {version}) AS perdure_pending \\gset
\\if :perdure_pending
SELECT pg_catalog.set_config('perdure.mode', {mode}, true), pg_catalog.set_config('perdure.env', {env}, true);
{up_sql}
INSERT INTO perdure.schema_migrations (version, name, checksum, duration_ms)
VALUES ({version}, '{name}', '{checksum}',
    extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000);
\\endif
COMMIT;
"""


def render_sql(*, mode: str, env: str, to: int | None = None, directory: Path = MIGRATIONS) -> str:
    """A script for psql that does what ``up`` does: roles, then each migration in its own transaction, recorded.

    Raises:
        Refused: there is no migration ``to``.
        Invalid: ``mode`` or ``env`` is none, or a migration file is not what the runner promises to handle.
    """
    checked(mode, env)
    migrations = chosen(load_migrations(directory), to=to)
    head = migrations[-1].version if migrations else 0
    roles = ROLES_SQL.read_text(encoding="utf-8")
    parts = [_HEAD.format(head=head, lock=ADVISORY_LOCK, roles=roles)]
    for number, migration in enumerate(migrations, start=2):
        ledger = SCHEMA_MIGRATIONS_SQL.read_text(encoding="utf-8") if number == 2 else ""  # noqa: PLR2004
        parts.append(_step(migration, number=number, ledger=ledger, mode=mode, env=env))
    return "".join(parts)


def _step(migration: Migration, *, number: int, ledger: str, mode: str, env: str) -> str:
    return _STEP.format(
        number=number,
        migration=migration,
        lock=ADVISORY_LOCK,
        context=CONTEXT_SQL,
        ledger=ledger,
        version=migration.version,
        mode=_literal(mode),
        env=_literal(env),
        up_sql=migration.up_sql.rstrip("\n"),
        name=migration.name,
        checksum=migration.checksum,
    )


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
