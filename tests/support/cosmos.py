"""A Cosmos DB account that tests own: an emulator with our repairs, a child of the test process and gone with it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.adapters.cosmos.account import Consistency
from perdure.adapters.cosmos.driver import OPEN_TIMEOUT_S, CosmosDriver
from perdure.core.environment import SystemClock
from perdure.ports.secrets import Secret
from tests.support.servers import engine_missing

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "emulators" / "cosmos.js"
PACKAGE = "@vercel/cosmosdb-server"
STOP_TIMEOUT_S = 30
KEY = base64.b64encode(b"a key that the emulator does not look at").decode()
LARGE_BODIES = pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
"""For tests that commit more than 1 MB: the vendor's client hands it over in one piece, as the engine wants it."""


def find_modules() -> Path | None:
    """Where the emulator's package is installed; None if this machine does not have it."""
    places = [ROOT / "build" / "emulators" / "node_modules"]
    if named := os.environ.get("PERDURE_TEST_EMULATORS"):
        places.insert(0, Path(named))
    return next((place for place in places if (place / PACKAGE).is_dir()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the account answered."""

    status: int
    headers: dict[str, str]
    body: Any


class CosmosServer:
    """One emulated account on a free loopback port, empty at the start."""

    def __init__(self, modules: Path) -> None:
        command = ["node", str(SCRIPT), "0"]
        if sys.platform == "linux" and shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        environment = {**os.environ, "NODE_PATH": str(modules)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert self._process.stdout is not None, "asked for a pipe"
        words = self._process.stdout.readline().split()
        assert words[:1] == ["ready"], f"the emulator did not start: {words}"
        self.port = int(words[1])
        self._databases = count(1)
        self._http = httpx.Client(base_url=self.endpoint, trust_env=False)

    def __repr__(self) -> str:
        return f"CosmosServer(port={self.port})"

    @property
    def endpoint(self) -> str:
        """The account's address."""
        return f"http://127.0.0.1:{self.port}"

    def new_database(self) -> str:
        """A name that no test used before."""
        return f"tests{next(self._databases)}"

    def driver(
        self,
        database: str,
        *,
        port: int | None = None,
        create_container: bool = True,
        consistency: Consistency = "session",
        open_timeout_s: float = OPEN_TIMEOUT_S,
    ) -> CosmosDriver:
        """A driver that is not open yet; ``port`` is that of a proxy before the account."""
        return CosmosDriver(
            endpoint=self.endpoint if port is None else f"http://127.0.0.1:{port}",
            key=Secret(KEY),
            database=database,
            create_container=create_container,
            consistency=consistency,
            clock=SystemClock(),
            open_timeout_s=open_timeout_s,
        )

    def fail(
        self,
        status: int,
        *,
        on: str | None = None,
        times: int = 1,
        operation: int | None = None,
        headers: dict[str, str] | None = None,
        message: str = "injected",
        text: str | None = None,
    ) -> None:
        """Lets the next ``times`` requests (of a kind: batch, query, read or meta) fail before they do anything.

        ``text`` is the whole answer instead of an error in JSON.
        With ``operation`` the request is carried out until that operation of the batch, which fails.
        """
        failure = {"status": status, "on": on, "times": times, "headers": headers or {}, "message": message}
        if text is not None:
            failure["text"] = text
        if operation is not None:
            failure["operation"] = operation
        self._http.post("/_tests/failures", json=failure).raise_for_status()

    def pass_time(self, seconds: float) -> None:
        """Lets the account remove what will have expired by then, now."""
        self._http.post("/_tests/clock", json={"ahead_s": seconds}).raise_for_status()

    def send(self, method: str, path: str, *, headers: dict[str, str] | None = None, body: object = None) -> Answer:
        """One request as it is, past the vendor's client; ``body`` becomes JSON."""
        content = None if body is None else json.dumps(body)
        answer = self._http.request(method, path, headers=headers, content=content)
        return Answer(
            status=answer.status_code, headers=dict(answer.headers), body=answer.json() if answer.content else None
        )

    def item(self, database: str, partition: str, sort: str) -> Answer:
        """An item as it is kept."""
        headers = {"x-ms-documentdb-partitionkey": json.dumps([partition])}
        return self.send("GET", f"/dbs/{database}/colls/perdure/docs/{sort}", headers=headers)

    def requests(self) -> dict[str, int]:
        """How many requests of each kind came since this was asked last, and ``bytes``, the largest body among them."""
        counted: dict[str, int] = self._http.get("/_tests/requests").raise_for_status().json()
        return counted

    def forget(self) -> None:
        """Ends what one test arranged, before the next begins."""
        self._http.delete("/_tests").raise_for_status()
        self.requests()

    def discard(self) -> None:
        """Ends it; what it kept is gone."""
        self._http.close()
        self._process.kill()
        self._process.wait(timeout=STOP_TIMEOUT_S)
        assert self._process.stdout is not None, "asked for a pipe"
        self._process.stdout.close()


@pytest.fixture(scope="session")
def cosmos_account() -> Iterator[CosmosServer]:
    """The emulator, started when the first test asks for it."""
    modules = find_modules()
    if modules is None or shutil.which("node") is None:
        engine_missing("the emulator of Cosmos DB", "run tools/engines (it needs node)")
    assert modules is not None, "engine_missing does not return"
    server = CosmosServer(modules)
    yield server
    server.discard()


@pytest.fixture
def cosmos(cosmos_account: CosmosServer) -> Iterator[CosmosServer]:
    """The emulator, with no failure left to come and no request counted."""
    cosmos_account.forget()
    yield cosmos_account
    cosmos_account.forget()
