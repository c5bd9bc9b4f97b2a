"""Firestore databases that tests own: our fake and the official emulator, children of the test process."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.servers import free_port

__all__ = ["EmulatorServer", "FakeServer", "FirestoreServer", "firestore_emulator", "firestore_server"]

FAKE = Path(__file__).with_name("firestore_fake.py")
EMULATOR = Path("/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
EMULATOR_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


class FirestoreServer:
    """A server in a process of its own; it keeps what it is told in memory, for every project that is named."""

    def __init__(self, command: list[str], port: int = 0) -> None:
        if sys.platform == "linux" and shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self._projects = count(1)
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-firestore-"))
        # A file and not a pipe: nobody reads on after the start, and a full pipe would stop the server.
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )
        self.port = port

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port})"

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def new_project(self) -> str:
        """A project that no test used before, and so an empty database."""
        return f"tests-{next(self._projects)}"

    def discard(self) -> None:
        """Ends it; what it kept is gone."""
        self._process.kill()
        self._process.communicate(timeout=STOP_TIMEOUT_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def wait_for(self, word: str) -> str:
        """The first line of the log with this word."""
        for _ in range(START_TIMEOUT_S * 100):
            log = (self._directory / "log").read_text(errors="replace")
            found = next((line for line in log.splitlines(keepends=True) if word in line and line.endswith("\n")), None)
            if found is not None:
                return found
            # Waiting for the child is the pause between two looks, and ends at once when it gives up.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.01)
                break
        log = (self._directory / "log").read_text(errors="replace")
        self.discard()
        raise AssertionError(f"{type(self).__name__} did not start: {log[-2000:]}")


class FakeServer(FirestoreServer):
    """Our fake."""

    def __init__(self) -> None:
        super().__init__([sys.executable, str(FAKE)])
        self.port = int(self.wait_for("ready").split()[1])


class EmulatorServer(FirestoreServer):
    """The official emulator. Ask ``missing`` first."""

    def __init__(self) -> None:
        port = free_port()
        command = [
            "java",
            "-Xmx512m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Duser.language=en",
            "-cp",
            str(EMULATOR),
            EMULATOR_MAIN,
        ]
        super().__init__([*command, "--host=127.0.0.1", f"--port={port}"], port)
        self.wait_for("is now running")

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks for it, if anything."""
        if not EMULATOR.exists():
            return str(EMULATOR)
        return None if shutil.which("java") else "java"


@pytest.fixture(scope="session")
def firestore_server() -> Iterator[FakeServer]:
    """Our fake, started when the first test asks for it."""
    server = FakeServer()
    yield server
    server.discard()


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[EmulatorServer]:
    """The official emulator. No package registry has it, so a machine without it skips, in CI too."""
    if missing := EmulatorServer.missing():
        pytest.skip(f"the official emulator of Firestore is not on this machine ({missing}); only our fake was asked")
    server = EmulatorServer()
    yield server
    server.discard()
