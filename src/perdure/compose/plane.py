"""Opening a plane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from perdure.adapters.postgres.ledger import PostgresLedger
from perdure.adapters.postgres.ledger_reads import PostgresLedgerReader
from perdure.adapters.postgres.tenants import PostgresTenants
from perdure.compose.database import Dsns, check_plane, database, refuse_privileged, session, worker_name
from perdure.compose.relay import WebhookSettings, running_relay
from perdure.compose.routing import routed_stores
from perdure.config import DATA_DIR_DEFAULT, Config, make_config, read_settings
from perdure.core.commit_queue import COALESCED_CHANGES_MAX, CommitQueue
from perdure.core.effect_hints import EffectHints
from perdure.core.environment import system_environment
from perdure.core.fanout import Fanout
from perdure.core.plane import Plane
from perdure.core.relay import Relay, RelaySettings
from perdure.core.tenants import Tenants
from perdure.ports.environment import Environment
from perdure.ports.relay import DeadLetterHook, Deliverer


def open_plane(
    dsn: str | None = None,
    *,
    data_dir: str | Path = DATA_DIR_DEFAULT,
    mode: str | None = None,
    env: str | None = None,
    relay_dsn: str | None = None,
    listen_dsn: str | None = None,
    owner_dsn: str | None = None,
    coalesce: bool = True,
    connections_max: int = 10,
    timeout_s: float = 30.0,
    registry: Mapping[str, Any] | None = None,
    settings: str | Path | None = None,
    environment: Environment | None = None,
) -> AbstractAsyncContextManager[Plane]:
    """Open a plane: ``async with perdure.open() as plane``.

    Without ``dsn`` it is on the embedded PostgreSQL under ``data_dir``, which is started or joined, migrated, and left
    at the end; with one it is on a database of yours (PostgreSQL 15 or later) as the role ``perdure_app``, with the
    (``mode``, ``env``) that the database was made for. ``relay_dsn``, ``listen_dsn`` (not through a pooler) and
    ``owner_dsn`` are needed only for what those roles do: delivering, waking early, and administering tenants.

    ``coalesce`` lets changes of a tenant that wait together share a transaction. At most ``connections_max``
    connections are used, and one is waited for ``timeout_s`` seconds. ``environment`` replaces time, chance and ids.

    ``registry`` says where the routing registry is kept, as in ``{"backend": "postgres", "config": {}}``; the plane's
    own database unless it is given, or named by the file ``settings`` (see ``perdure.toml``). In lab a registry that
    was never used gets routes of ``t_system`` that keep everything in the plane's own database.

    Raises ``Refused`` (other plane, other schema, unsupported platform), ``BackendDown``, and ``Unavailable``
    (``routes.unreadable``) for a registry that cannot be read.
    """
    if settings is not None:
        registry = registry if registry is not None else read_settings(settings).get("registry")
    config = make_config(
        dsn,
        data_dir=data_dir,
        mode=mode,
        env=env,
        relay_dsn=relay_dsn,
        listen_dsn=listen_dsn,
        owner_dsn=owner_dsn,
        coalesce=coalesce,
        connections_max=connections_max,
        timeout_s=timeout_s,
        registry=registry,
    )
    return running_plane(config, environment if environment is not None else system_environment())


@asynccontextmanager
async def running_plane(config: Config, environment: Environment) -> AsyncIterator[Plane]:
    """The plane of a configuration, running for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        dsns = await stack.enter_async_context(database(config))
        app = await stack.enter_async_context(session(dsns.app, config, role="app"))
        await check_plane(app, config)
        await refuse_privileged(app)
        ledger = PostgresLedger(app)
        queue = CommitQueue(ledger, changes_max=COALESCED_CHANGES_MAX if config.coalesce else 1)
        hints = EffectHints(ledger)
        stack.push_async_callback(hints.close)
        stack.push_async_callback(queue.close)
        fanout = Fanout()
        stores, _ = await stack.enter_async_context(routed_stores(app, config, environment, fanout))
        yield Plane(
            mode=config.mode,
            env=config.env,
            ledger=ledger,
            reader=PostgresLedgerReader(app),
            tenants=Tenants(PostgresTenants(dsns.owner)),
            environment=environment,
            queue=queue,
            hints=hints,
            open_relay=partial(_plane_relay, dsns, config, environment),
            worker=worker_name(environment),
            stores=stores,
            fanout=fanout,
        )


@asynccontextmanager
async def _plane_relay(
    dsns: Dsns,
    config: Config,
    environment: Environment,
    deliverers: Mapping[str, Deliverer],
    *,
    webhooks: bool,
    settings: RelaySettings | None,
    on_dead_letter: DeadLetterHook | None,
) -> AsyncIterator[Relay]:
    async with (
        session(dsns.relay, config, role="relay") as opened,
        running_relay(
            opened,
            mode=config.mode,
            listen_dsn=dsns.listen,
            environment=environment,
            deliverers=deliverers,
            webhooks=WebhookSettings() if webhooks else None,
            settings=settings,
            on_dead_letter=on_dead_letter,
        ) as relay,
    ):
        yield relay
