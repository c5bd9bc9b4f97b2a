"""A pgbouncer in transaction mode in front of a test server."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from tests.support.servers import ROLES, Server, as_child, free_port

__all__ = ["Pgbouncer"]

START_TIMEOUT_S = 20

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
admin_users = postgres
pool_mode = transaction
max_client_conn = 500
default_pool_size = 10
server_idle_timeout = 5
logfile = {directory}/log
pidfile = {directory}/pid
"""


class Pgbouncer:
    """Its own process on its own port; every database of the server, every role of the ledger."""

    def __init__(self, server: Server) -> None:
        program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        assert program is not None, "ask shutil.which first"
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-pgbouncer-"))
        (self._directory / "users").write_text("".join(f'"{user}" ""\n' for user in ROLES.values()))
        configuration = self._directory / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(server_port=server.port, port=self.port, directory=self._directory)
        )
        self._process = subprocess.Popen(
            as_child([program, "-q", str(configuration)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._await_ready()

    def dsn(self, role: str, *, dbname: str) -> str:
        """A DSN through the pooler."""
        return f"postgresql://{ROLES.get(role, role)}@127.0.0.1:{self.port}/{dbname}"

    def discard(self) -> None:
        """Ends it and deletes its files."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=START_TIMEOUT_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _await_ready(self) -> None:
        for _ in range(START_TIMEOUT_S * 100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.01)
                break
        log = self._directory / "log"
        raise AssertionError(f"pgbouncer did not start: {log.read_text()[-2000:] if log.exists() else 'no log'}")
