"""CXDB's protocol by a bare echo of as many bytes: what a round trip costs over what the socket costs.

The store is in memory: what is left is the protocol, and the way to the store. Once servers and clients share a loop;
once a client that blocks asks servers in a process of their own, which run as ``perdure cxdb serve`` does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Final

from bench.cxdb_client import BlockingClient, Client, append_request, connected, encoded, head_request
from bench.report import Row, Target, progress
from bench.rounds import Round, Series, Subject, compare_latencies
from bench.server import Server
from bench.settings import Settings
from perdure.adapters.cxdb.codec.requests import CreateContext, Hello
from perdure.adapters.cxdb.server import Profile, ServerSettings, serving
from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver, MemoryStore
from perdure.adapters.objectstore.opening import memory
from perdure.core.environment import system_environment
from perdure.core.objects import StoreBlobs
from perdure.core.turn_store import StoredTurns, TurnParts
from perdure.domain.container import make_space

SPACE: Final = make_space(tenant="t_bench", mode="lab", env="dev", project="default")
ECHO: Final = "echo"
CONTENT_BYTES: Final = 1_024
HEAD_TARGET: Final = Target(quantity="latency_a", bound=5.0)


async def measure(server: Server, settings: Settings) -> list[Row]:
    """A greeting, a head and an append of 1 KB in both profiles."""
    del server
    progress("cxdb: servers and clients on one loop")
    async with (
        echo_server() as port,
        connected(port) as echo,
        _client(Profile.IMPROVED) as improved,
        _client(Profile.STRICT) as strict,
    ):
        subjects = [_subject(ECHO, echo, lambda: head_request(1)), *_asked(improved, strict)]
        found = await compare_latencies(
            subjects, bases=(ECHO,), rounds=settings.store_rounds, count=settings.store_count
        )
    progress("cxdb: servers in a process of their own, a client that blocks")
    blocking = await asyncio.to_thread(_blocking, rounds=settings.store_rounds, count=4 * settings.store_count)
    return [
        *(_row("cxdb, one loop", name, series) for name, series in found.items()),
        *(_row("cxdb, a client that blocks", name, series, target=HEAD_TARGET) for name, series in blocking.items()),
    ]


def _row(section: str, what: str, series: Series, *, target: Target | None = None) -> Row:
    return Row(
        section=section,
        what=what,
        p50_ms=series.percentile_ms(0.5),
        p95_ms=series.percentile_ms(0.95),
        p99_ms=series.percentile_ms(0.99),
        rate=series.rate(),
        latency_a=series.latency_ratio(ECHO),
        targets=() if target is None or what == ECHO else (target,),
    )


def _asked(improved: Client, strict: Client) -> Iterator[Subject]:
    for profile, client in ((Profile.IMPROVED, improved), (Profile.STRICT, strict)):
        yield _subject(f"HELLO, {profile.value}", client, lambda: encoded(Hello()))
        yield _subject(f"GET_HEAD, {profile.value}", client, lambda: head_request(1))
        yield _subject(f"APPEND_TURN of 1 KB, {profile.value}", client, lambda: append_request(1, CONTENT_BYTES))


def _subject(name: str, client: Client, request: Callable[[], bytes]) -> Subject:
    async def perform(_worker: int, asked: bytes) -> None:
        await client.ask(asked)

    def prepare(wanted: int) -> Sequence[bytes]:
        return [request() for _ in range(wanted)]

    return Subject(name=name, prepare=prepare, perform=perform)


def _blocking(*, rounds: int, count: int) -> dict[str, Series]:
    """Heads of a context with a few turns, by the echo of the same bytes in the same round."""
    with ExitStack() as stack:
        clients: dict[str, BlockingClient] = {}
        for name in (ECHO, *(profile.value for profile in Profile)):
            client = stack.enter_context(BlockingClient(stack.enter_context(_process(name))))
            clients[ECHO if name == ECHO else f"GET_HEAD, {name}"] = client
            if name != ECHO:
                context_id = client.create()
                assert context_id == 1, "the first of its store"
                for _ in range(3):
                    client.ask(append_request(context_id, CONTENT_BYTES))
        found = {name: Series() for name in clients}
        request = head_request(1)
        for number in range(rounds + 1):
            taken = {name: _round(client, request, count) for name, client in clients.items()}
            for name, one in taken.items() if number else ():  # the first one warms
                found[name].rounds.append(one)
                found[name].latency_ratios.setdefault(ECHO, []).append(one.p50_s / taken[ECHO].p50_s)
    return found


def _round(client: BlockingClient, request: bytes, count: int) -> Round:
    latencies_s: list[float] = []
    first = time.perf_counter()
    for _ in range(count):
        began = time.perf_counter()
        client.ask(request)
        latencies_s.append(time.perf_counter() - began)
    return Round(latencies_s=latencies_s, elapsed_s=time.perf_counter() - first)


@contextmanager
def _process(name: str) -> Iterator[int]:
    """The port of a server of that name in a process of its own."""
    command = [sys.executable, "-m", "bench.cxdb", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.stdin.close()  # it ends with us, however we end


@asynccontextmanager
async def _client(profile: Profile) -> AsyncIterator[Client]:
    async with _server(profile) as port, connected(port) as client:
        await client.ask(encoded(CreateContext()))
        yield client


@asynccontextmanager
async def _server(profile: Profile) -> AsyncIterator[int]:
    environment = system_environment()
    backend = DocumentBackend(MemoryDriver(MemoryStore()), mode="lab", env="dev", environment=environment)
    await backend.open()
    parts = TurnParts(backend.logs, backend.rows, environment=environment, sleep=asyncio.sleep)
    turns = StoredTurns(parts, StoreBlobs(memory(mode="lab", env="dev", environment=environment)))
    settings = ServerSettings(port=0, profile=profile)
    async with serving(turns, SPACE, settings=settings, rows=backend.rows) as server:
        yield server.port
    await backend.close()


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """The port of a server that sends back what it is sent."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port: int = listening.sockets[0].getsockname()[1]
        yield port


async def _serve(name: str) -> None:
    """Serve until nobody holds the other end of stdin."""
    async with echo_server() if name == ECHO else _server(Profile(name)) as port:
        print(port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
