"""The command ``perdure routes`` and planes on one test's database, with a data directory of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from typer.testing import CliRunner, Result

from perdure.cli.main import app
from perdure.compose import open_plane
from perdure.core.plane import Plane
from perdure.errors import PerdureError
from tests.support.databases import Database, run_apart

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody at the keyboard, on one plane."""

    database: Database
    data_dir: Path
    mode: str = "lab"
    env: str = "dev"

    def run(self, *words: str, stdin: str | None = None) -> Result:
        """``perdure routes`` with these words."""
        where = ["--dsn", self.database.direct_dsn("app"), "--mode", self.mode, "--env", self.env]
        return CliRunner().invoke(app, ["routes", *words, *where, "--data-dir", str(self.data_dir)], input=stdin)

    def said(self, *words: str, stdin: str | None = None) -> str:
        """What a command that succeeds prints on stdout."""
        result = self.run(*words, stdin=stdin)
        assert result.exit_code == 0, f"{result.output} {result.exception!r}"
        return result.stdout

    def printed(self, *words: str, stdin: str | None = None) -> Any:
        """The JSON document that it prints."""
        return json.loads(self.said(*words, "--json", stdin=stdin))

    def refusal(self, *words: str, stdin: str | None = None) -> PerdureError:
        """The error with which a command is refused."""
        result = self.run(*words, stdin=stdin)
        assert isinstance(result.exception, PerdureError), f"{result.output} {result.exception!r}"
        assert result.stdout == ""
        return result.exception

    def add_tenant(self, slug: str) -> None:
        """``perdure tenants add``, which outside lab is needed first."""
        result = CliRunner().invoke(app, ["tenants", "add", slug, "--dsn", self.database.direct_dsn("owner")])
        assert result.exit_code == 0, result.output

    @asynccontextmanager
    async def plane(self, *, settings: Path | None = None) -> AsyncIterator[Plane]:
        """The plane itself."""
        async with open_plane(
            self.database.direct_dsn("app"),
            data_dir=self.data_dir,
            mode=self.mode,
            env=self.env,
            owner_dsn=self.database.direct_dsn("owner"),
            connections_max=4,
            settings=settings,
        ) as plane:
            yield plane

    def apart(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that opens the plane, from a test without an event loop."""
        return run_apart(work)

    def versions(self) -> Mapping[str, int]:
        """Every route's version by kind and tenant."""
        return {f"{one['kind']} {one['tenant']}": one["version"] for one in self.printed("list")["items"]}
