"""The routed stores of a plane: the registry found, its routes read, and both kept up for as long as the plane runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from perdure.adapters.postgres.admission import PostgresAdmission
from perdure.adapters.postgres.session import Session
from perdure.compose.backends import Lent, backend_specs
from perdure.config import Config
from perdure.core.backends import Backends
from perdure.core.fanout import Fanout
from perdure.core.route_upkeep import RouteUpkeep, show_own_place, write_lab_routes
from perdure.core.routing import Routing
from perdure.core.secrets import SystemSecrets
from perdure.core.stores import Stores
from perdure.domain.kinds import Kind
from perdure.domain.route import Target
from perdure.ports.backend import BackendRequest
from perdure.ports.environment import Environment

OWN_DATABASE = Target(backend="postgres", config={})
"""Where the registry is unless the settings say otherwise, and where lab keeps everything."""

CANCEL_AGAIN_S: Final = 0.25


@asynccontextmanager
async def routed_stores(
    app: Session, config: Config, environment: Environment, fanout: Fanout
) -> AsyncIterator[tuple[Stores, RouteUpkeep]]:
    """Stores whose routes were read, refreshed and relayed for as long as the block lasts.

    Raises ``Unavailable`` (``routes.unreadable``) when the registry cannot be read.
    """
    request = BackendRequest(
        config={},
        mode=config.mode,
        env=config.env,
        data_dir=config.data_dir,
        secrets=SystemSecrets(os.environ),
        environment=environment,
        timeout_s=config.timeout_s,
    )
    backends = Backends(backend_specs(Lent(session=app)), request=request, clock=environment.clock)
    registry = config.registry if config.registry is not None else OWN_DATABASE
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(backends.close)
        # In use for as long as the plane runs, whatever the routes say.
        home = await stack.enter_async_context(backends.use(registry, kind=Kind.ROUTES))
        routing = Routing(home.routes, clock=environment.clock, timeout_s=config.timeout_s)
        await routing.start()
        stores = Stores(
            routing=routing,
            backends=backends,
            admission=PostgresAdmission(app),
            environment=environment,
            timeout_s=config.timeout_s,
        )
        if config.mode == "lab":
            await write_lab_routes(stores, OWN_DATABASE)
        await show_own_place(stores, registry)
        upkeep = RouteUpkeep(stores, fanout=fanout)
        task = asyncio.create_task(upkeep.run(), name="perdure-routes")
        stack.push_async_callback(upkeep.stop, task)
        yield stores, upkeep
