"""Administering tenants without opening a plane: as the owner of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from perdure.adapters.postgres.tenants import PostgresTenants
from perdure.compose.database import database
from perdure.config import DATA_DIR_DEFAULT, make_config
from perdure.core.tenants import Tenants


@asynccontextmanager
async def open_tenants(dsn: str | None = None, *, data_dir: str | Path = DATA_DIR_DEFAULT) -> AsyncIterator[Tenants]:
    """The tenants of the embedded database under ``data_dir``, or of the one that ``dsn`` names as its owner."""
    if dsn is not None:
        yield Tenants(PostgresTenants(dsn))
        return
    async with database(make_config(data_dir=data_dir)) as dsns:
        yield Tenants(PostgresTenants(dsns.owner))
