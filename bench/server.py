"""A PostgreSQL of the bench's own: the one from the wheel, durable, gone when the bench is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import LiteralString, Self

import psycopg
from psycopg import sql

from perdure.adapters.embedded.binaries import locate, server_environment
from perdure.adapters.postgres import migrate

MODE = "lab"
ENV = "bench"
ROLES = {"superuser": "postgres", "owner": "perdure_owner", "app": "perdure_app", "relay": "perdure_relay"}

_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 60
_CONNECTIONS_MAX = 200
_LOOKS_MAX = 1_000
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "max_connections": str(_CONNECTIONS_MAX),
    "shared_buffers": "256MB",
    # A checkpoint in the middle of a round is noise that has nothing to do with what is compared.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "log_min_messages": "fatal",
}


class Server:
    """One cluster and its postmaster, below ``parent``; a context manager that removes both.

    Whoever reaches the loopback address is trusted while it runs: there is nothing in it but made-up rows.
    """

    def __init__(self, parent: Path) -> None:
        self.binaries = locate(Path(os.environ["PERDURE_PG_BIN"]) if "PERDURE_PG_BIN" in os.environ else None)
        self.port = _free_port()
        parent.mkdir(parents=True, exist_ok=True)
        self._root = Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).absolute()
        self.directory = self._root / "cluster"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self._start()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def dsn(self, role: str, *, database: str) -> str:
        """The DSN of a role: superuser, owner, app or relay."""
        return f"postgresql://{ROLES[role]}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: LiteralString, *, database: str = "postgres") -> None:
        """Run one statement as the superuser, in autocommit."""
        with psycopg.connect(self.dsn("superuser", database=database), autocommit=True) as connection:
            connection.execute(statement)

    def setting(self, name: str, value: str | None) -> None:
        """Change a setting of the running server, or put it back (None); returns once a new session sees it."""
        change = sql.SQL("ALTER SYSTEM RESET {}").format(sql.Identifier(name))
        if value is not None:
            change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
        with psycopg.connect(self.dsn("superuser", database="postgres"), autocommit=True) as connection:
            connection.execute(change)
            connection.execute("SELECT pg_reload_conf()")
        # A new session's answer says that the postmaster has read it and passed it on.
        for _ in range(_LOOKS_MAX):
            if self._reads(name, value):
                return
        raise SystemExit(f"PostgreSQL did not take {name} = {value}")

    async def create_database(self, name: str) -> str:
        """A migrated database of that name, in which nothing was ever done; returns the name."""
        with psycopg.connect(self.dsn("superuser", database="postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        await migrate.up(self.dsn("superuser", database=name), mode=MODE, env=ENV)
        for role in ("perdure_owner", "perdure_app", "perdure_relay"):
            with psycopg.connect(self.dsn("superuser", database=name), autocommit=True) as connection:
                connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
        return name

    # --- inside -------------------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        command = [self.binaries.program("initdb"), "-D", str(self.directory), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            _as_nobody_special(command), capture_output=True, text=True, check=False, env=server_environment()
        )
        if done.returncode != 0:
            raise SystemExit(f"initdb failed: {done.stdout}{done.stderr}")

    def _start(self) -> None:
        command = [self.binaries.program("postgres"), "-D", str(self.directory), "-c", f"port={self.port}"]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                _as_nobody_special(command),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=server_environment(),
                start_new_session=True,
            )
        for _ in range(_START_TIMEOUT_S * 50):
            if self._is_ready():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.02)
                break
        raise SystemExit(f"PostgreSQL did not start: {(self._root / 'log').read_text(errors='replace')[-2000:]}")

    def _is_ready(self) -> bool:
        # The postmaster keeps its state in the eighth line.
        with contextlib.suppress(OSError, IndexError):
            return (self.directory / "postmaster.pid").read_text().split("\n")[7].strip() == "ready"
        return False

    def _reads(self, name: str, value: str | None) -> bool:
        with psycopg.connect(self.dsn("superuser", database="postgres"), autocommit=True) as connection:
            row = connection.execute(
                "SELECT setting = coalesce(%s, boot_val) FROM pg_settings WHERE name = %s", (value, name)
            ).fetchone()
        return row is not None and bool(row[0])

    def _discard(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=_STOP_TIMEOUT_S)
        shutil.rmtree(self._root, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_nobody_special(command: list[str]) -> list[str]:
    """The command so that it dies with the bench, and inside a user namespace where we are root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        prefix += ["unshare", "-U", "--map-user=1000", "--map-group=1000", "--"]
    if sys.platform == "linux" and shutil.which("setpriv"):
        # Inside the namespace: entering one clears the wish to die with the parent.
        prefix += ["setpriv", "--pdeathsig", "INT", "--"]
    return [*prefix, *command]
