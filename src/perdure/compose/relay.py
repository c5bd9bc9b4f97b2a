"""From a database to a running relay, and to the outbox for operators."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from perdure.adapters.postgres import migrate
from perdure.adapters.postgres.relay import PostgresOutbox
from perdure.adapters.postgres.relay_hints import check_listen_dsn
from perdure.adapters.postgres.session import PoolSettings, Session
from perdure.adapters.webhooks import WebhookDeliverer, WebhookSettings
from perdure.compose.database import database, worker_name
from perdure.config import DATA_DIR_DEFAULT, make_config
from perdure.core.environment import system_environment
from perdure.core.outbox import Outbox
from perdure.core.relay import Relay, RelaySettings, Surroundings
from perdure.core.secrets import SystemSecrets
from perdure.domain.ids import Mode, check_mode
from perdure.errors import Refused
from perdure.ports.environment import Environment
from perdure.ports.relay import DeadLetterHook, Deliverer
from perdure.ports.secrets import Secrets

__all__ = ["WEBHOOK_TYPES", "WebhookSettings", "open_outbox", "open_relay", "running_relay", "system_secrets"]

WEBHOOK_TYPES: Final = ("WEBHOOK_CALL", "API_CALL")
RELAY_ACTOR: Final = "system:relay"
RELAY_SOURCE: Final = "scheduler:relay"
OPERATOR: Final = "user:operator"
OPERATOR_SOURCE: Final = "manual:cli"

# Outside lab, who requests an effect need not be who runs the relay: what it may name is set apart.
_SECRET_ENV_PREFIX: Final = "PERDURE_SECRET_"  # noqa: S105 - the beginning of a name
_SECRET_DIRECTORIES: Final = (Path("/run/secrets"),)
_CONNECTIONS_MAX: Final = 4  # claims, outcomes, heartbeats, and one to spare

_MODE: Final = "SELECT mode FROM perdure.plane_settings"


@dataclass(frozen=True, slots=True)
class _Opened:
    session: Session
    mode: Mode
    listen_dsn: str | None


def system_secrets(
    mode: Mode, *, env_prefix: str | None = None, directories: tuple[Path, ...] | None = None
) -> Secrets:
    """Secrets of this process: in lab everything it may read, elsewhere ``PERDURE_SECRET_*`` and /run/secrets.

    ``env_prefix`` and ``directories`` say otherwise in any mode.
    """
    if mode != "lab":
        env_prefix = _SECRET_ENV_PREFIX if env_prefix is None else env_prefix
        directories = _SECRET_DIRECTORIES if directories is None else directories
    return SystemSecrets(os.environ, env_prefix=env_prefix or "", directories=directories)


@asynccontextmanager
async def open_relay(
    dsn: str | None = None,
    *,
    data_dir: str | Path = DATA_DIR_DEFAULT,
    listen_dsn: str | None = None,
    deliverers: Mapping[str, Deliverer] | None = None,
    webhooks: WebhookSettings | None = None,
    secret_env_prefix: str | None = None,
    secret_directories: tuple[Path, ...] | None = None,
    settings: RelaySettings | None = None,
    on_dead_letter: DeadLetterHook | None = None,
    environment: Environment | None = None,
) -> AsyncIterator[Relay]:
    """A relay of its own process: on the embedded database of ``data_dir``, or as ``perdure_relay`` on ``dsn``.

    ``webhooks`` delivers WEBHOOK_CALL and API_CALL effects that have no deliverer of their own. ``listen_dsn`` is a DSN
    of the server itself; without it (and not embedded) the relay goes by polling alone. The rest as ``running_relay``.
    """
    async with (
        _opened(dsn, data_dir=data_dir, listen_dsn=listen_dsn) as opened,
        running_relay(
            opened.session,
            mode=opened.mode,
            listen_dsn=opened.listen_dsn,
            environment=environment if environment is not None else system_environment(),
            deliverers=deliverers,
            webhooks=webhooks,
            secrets=system_secrets(opened.mode, env_prefix=secret_env_prefix, directories=secret_directories),
            settings=settings,
            on_dead_letter=on_dead_letter,
        ) as relay,
    ):
        yield relay


@asynccontextmanager
async def running_relay(
    session: Session,
    *,
    mode: Mode,
    listen_dsn: str | None,
    environment: Environment,
    deliverers: Mapping[str, Deliverer] | None = None,
    webhooks: WebhookSettings | None = None,
    secrets: Secrets | None = None,
    settings: RelaySettings | None = None,
    on_dead_letter: DeadLetterHook | None = None,
) -> AsyncIterator[Relay]:
    """A relay over connections of the relay's role.

    Outside lab, webhooks go to public addresses only, unless ``webhooks.hosts_allowed`` names where they may go.
    Raises ``Refused`` for a pooled ``listen_dsn`` and what ``Relay`` raises.
    """
    secrets = secrets if secrets is not None else system_secrets(mode)
    async with AsyncExitStack() as stack:
        if listen_dsn is not None:
            await check_listen_dsn(listen_dsn)
        by_type = dict(deliverers or {})
        if webhooks is not None:
            if mode != "lab" and webhooks.hosts_allowed is None:
                webhooks = replace(webhooks, public_only=True)
            deliverer = WebhookDeliverer(secrets=secrets, clock=environment.clock, settings=webhooks)
            await stack.enter_async_context(deliverer)
            for effect_type in WEBHOOK_TYPES:
                by_type.setdefault(effect_type, deliverer)
        yield await stack.enter_async_context(
            Relay(
                PostgresOutbox(session, actor=RELAY_ACTOR, source=RELAY_SOURCE, listen_dsn=listen_dsn),
                by_type,
                environment=environment,
                worker=worker_name(environment),
                settings=settings,
                on_dead_letter=on_dead_letter,
                surroundings=Surroundings(redact=secrets.redact),
            )
        )


@asynccontextmanager
async def open_outbox(
    dsn: str | None = None, *, data_dir: str | Path = DATA_DIR_DEFAULT, actor: str = OPERATOR
) -> AsyncIterator[Outbox]:
    """The outbox of all tenants for an operator: embedded, or as ``perdure_relay`` on ``dsn``."""
    async with _opened(dsn, data_dir=data_dir, listen_dsn=None) as opened:
        store = PostgresOutbox(opened.session, actor=RELAY_ACTOR, source=RELAY_SOURCE)
        yield Outbox(store, actor=actor, source=OPERATOR_SOURCE)


@asynccontextmanager
async def _opened(dsn: str | None, *, data_dir: str | Path, listen_dsn: str | None) -> AsyncIterator[_Opened]:
    async with AsyncExitStack() as stack:
        if dsn is None:
            dsns = await stack.enter_async_context(database(make_config(data_dir=data_dir)))
            dsn, listen_dsn = dsns.relay, listen_dsn or dsns.listen
        assert dsn is not None, "the embedded database has a DSN for every role"
        session = Session(dsn, settings=PoolSettings(connections_max=_CONNECTIONS_MAX))
        await session.open()
        stack.push_async_callback(session.close)
        async with session.connection(writing=False) as connection:
            await migrate.check(connection)
            row = await (await connection.execute(_MODE)).fetchone()
        if row is None:
            raise Refused(
                "the database has no plane settings; was its first migration interrupted? perdure migrate --verify"
            )
        yield _Opened(session, check_mode(row["mode"]), listen_dsn)
