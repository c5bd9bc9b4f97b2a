"""Object stores of clouds that tests own: emulators, children of the test process and gone with it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from itertools import count
from pathlib import Path

import httpx
import pytest

from perdure.ports.secrets import Secret
from tests.support.servers import as_child, engine_missing, free_port

__all__ = ["AzureServer", "S3Server", "azure_server", "s3_server"]

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
START_ATTEMPTS_MAX = 5  # somebody else may take the free port first

REGION = "eu-central-1"
ACCESS_KEY_ID = Secret("AKIATESTSONLY")
SECRET_ACCESS_KEY = Secret("made-up-for-tests")

# Printed in the emulator's documentation: it takes no other.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = Secret("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
AZURE_VERSION = "2021-10-04"


def find_s3() -> Path | None:
    """The program of the S3 emulator; None if this machine does not have it."""
    places = [Path(sys.executable).with_name("moto_server")]
    if named := os.environ.get("PERDURE_TEST_MOTO_SERVER"):
        places.insert(0, Path(named))
    return next((place for place in places if place.exists()), None)


def find_azure() -> Path | None:
    """The program of the Azure emulator; None if this machine does not have it."""
    places = [ROOT / "build" / "emulators" / "node_modules"]
    if named := os.environ.get("PERDURE_TEST_EMULATORS"):
        places.insert(0, Path(named))
    programs = (place / "azurite" / "dist" / "src" / "blob" / "main.js" for place in places)
    return next((program for program in programs if program.exists()), None)


class Emulator:
    """A program that listens on a free loopback port; all that it keeps is in memory."""

    def __init__(self, command: list[str], *, port_option: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="perdure-objects-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count(1)
        self.port = 0
        for _ in range(START_ATTEMPTS_MAX):
            if self._try_start(command, port_option):
                return
        raise AssertionError(f"the emulator did not start: {self._log_tail()}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port})"

    def new_name(self) -> str:
        """A name that no test used before."""
        return f"tests{next(self._names)}"

    def discard(self) -> None:
        """Ends it; what it kept is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=STOP_TIMEOUT_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _try_start(self, command: list[str], port_option: str) -> bool:
        self.port = free_port()
        with (self._directory / "log").open("wb") as log:
            process = subprocess.Popen(
                as_child([*command, port_option, str(self.port)]),
                cwd=self._directory,
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
        raise AssertionError(f"the emulator is not ready after {START_TIMEOUT_S} s: {self._log_tail()}")

    def _log_tail(self) -> str:
        return (self._directory / "log").read_text(errors="replace")[-2000:]


class S3Server(Emulator):
    """An S3 that asks nobody who they are."""

    def __init__(self, program: Path) -> None:
        super().__init__([str(program), "-H", "127.0.0.1"], port_option="-p")

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self) -> str:
        """An empty bucket."""
        name = f"bucket-{self.new_name()}"
        # The first Host that it is asked for would say which service is meant; this header says it as a client would.
        headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential=a/20260101/{REGION}/s3/aws4_request"}
        body = (
            '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<LocationConstraint>{REGION}</LocationConstraint></CreateBucketConfiguration>"
        )
        with httpx.Client(trust_env=False) as client:
            client.put(f"{self.endpoint}/{name}", headers=headers, content=body).raise_for_status()
        return name


class AzureServer(Emulator):
    """An account of Azure Blob Storage."""

    def __init__(self, program: Path) -> None:
        command = ["node", str(program), "--blobHost", "127.0.0.1", "--inMemoryPersistence"]
        super().__init__([*command, "--skipApiVersionCheck", "--disableTelemetry"], port_option="--blobPort")

    @property
    def endpoint(self) -> str:
        """Its address, in which the account is the first part of the path."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def new_container(self) -> str:
        """An empty container."""
        name = f"container-{self.new_name()}"
        date = formatdate(usegmt=True)
        signed = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n"
            f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        )
        digest = hmac.digest(base64.b64decode(ACCOUNT_KEY.reveal()), signed.encode(), hashlib.sha256)
        headers = {
            "x-ms-date": date,
            "x-ms-version": AZURE_VERSION,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        with httpx.Client(trust_env=False) as client:
            client.put(f"{self.endpoint}/{name}?restype=container", headers=headers).raise_for_status()
        return name


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The S3 emulator, started when the first test asks for it."""
    program = find_s3()
    if program is None:
        engine_missing("the emulator of S3 (moto_server)", "install requirements-dev.txt")
    assert program is not None, "engine_missing does not return"
    server = S3Server(program)
    yield server
    server.discard()


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """The Azure emulator, started when the first test asks for it."""
    program = find_azure()
    if program is None or shutil.which("node") is None:
        engine_missing("the emulator of Azure Blob Storage", "run tools/engines (it needs node)")
    assert program is not None, "engine_missing does not return"
    server = AzureServer(program)
    yield server
    server.discard()
