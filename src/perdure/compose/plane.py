"""Opening a plane."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from perdure.adapters.postgres.ledger import PostgresLedger
from perdure.adapters.postgres.ledger_reads import PostgresLedgerReader
from perdure.adapters.postgres.tenants import PostgresTenants
from perdure.compose.database import Dsns, check_plane, database, refuse_privileged, session, worker_name
from perdure.compose.relay import WebhookSettings, running_relay
from perdure.compose.routing import routed_stores
from perdure.compose.tasklists import tenant_tasklists
from perdure.config import DATA_DIR_DEFAULT, Config, make_config, read_settings
from perdure.core.commit_queue import COALESCED_CHANGES_MAX, CommitQueue
from perdure.core.effect_hints import EffectHints
from perdure.core.environment import system_environment
from perdure.core.fanout import Fanout
from perdure.core.plane import Plane
from perdure.core.relay import Relay, RelaySettings
from perdure.core.secrets import SystemSecrets
from perdure.core.telemetry import PlaneTelemetry
from perdure.core.telemetry_settings import TelemetrySettings
from perdure.core.tenants import Tenants
from perdure.core.work_recording import telemetry_recorders
from perdure.core.work_saving import WorkParts
from perdure.ports.environment import Environment
from perdure.ports.relay import DeadLetterHook, Deliverer

DEAD_LETTERS: Final = Path("telemetry", "dead-letters.jsonl")
"""Under the data directory: telemetry that no store would take; the file is made when there is some."""


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
    tasklists: Mapping[str, Any] | None = None,
    settings: str | Path | None = None,
    work_key: str | None = None,
    telemetry: TelemetrySettings | None = None,
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

    ``work_key`` is a reference (``secret://env/NAME``) to 32 random bytes or more: with it the hashes of units of work
    are keyed, and who may write the database still cannot make one.

    ``telemetry`` says how entries of telemetry are buffered and flushed; those that no store would take are in a file
    under ``data_dir``, unless it names another.

    ``tasklists`` says how task lists are kept on this node, as in ``{"root": "state", "mode": "strict"}``, or the file
    does; without a root they are in memory only.

    Raises ``Refused`` (other plane, other schema, unsupported platform), ``BackendDown``, and ``Unavailable``
    (``routes.unreadable``) for a registry that cannot be read.
    """
    if settings is not None:
        found = read_settings(settings)
        registry = registry if registry is not None else found.get("registry")
        tasklists = tasklists if tasklists is not None else found.get("tasklists")
        work_key = work_key if work_key is not None else found.get("work_key")
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
        tasklists=tasklists,
        work_key=work_key,
    )
    return running_plane(config, environment if environment is not None else system_environment(), telemetry)


@asynccontextmanager
async def running_plane(
    config: Config, environment: Environment, telemetry: TelemetrySettings | None = None
) -> AsyncIterator[Plane]:
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
        flushing = PlaneTelemetry(stores, settings=_with_dead_letters(telemetry, config.data_dir))
        await flushing.start()
        stack.push_async_callback(flushing.stop)
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
            tasklists=lambda space: tenant_tasklists(space, config.tasklists, environment=environment),
            work_parts=WorkParts(
                stores,
                secrets=SystemSecrets(os.environ),
                recorders=telemetry_recorders(stores, flushing),
                key_reference=config.work_key,
            ),
            telemetry=flushing,
        )


def _with_dead_letters(settings: TelemetrySettings | None, data_dir: Path) -> TelemetrySettings:
    settings = settings if settings is not None else TelemetrySettings()
    if settings.dead_letters is not None:
        return settings
    return replace(settings, dead_letters=data_dir / DEAD_LETTERS)


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
