"""A run is recorded through a gateway before the HTTP port that answers for itself: each answer is a typed error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from perdure.adapters.cxdb.server import Profile
from perdure.core.recorder_health import SUSPENDED
from perdure.core.recorder_limits import RecorderLimits
from perdure.errors import PersistenceError
from tests.support.recorded_servers import KeptByServer, kept_by_server
from tests.support.recorded_turns import every_context, watched
from tests.support.scripted_session import Script

TOKEN: Final = "cxdb_pat_0123456789abcdef"
HTML: Final = f"<html><title>Log in</title><p>{TOKEN}</p>{'x' * 9_000}</html>"
LIMITS: Final = RecorderLimits(failures_max=3, retry_after_s=5)
SOON_S: Final = 0.5  # more than the binary port needs, which answers here

# What the gateway answers to everything, and what that is to a recorder.
CAUSES: Final[list[tuple[int, str]]] = [
    (401, "forbidden"),
    (403, "forbidden"),
    (404, "not_found"),
    (409, "conflict"),
    (422, "invalid"),
    (424, "invalid"),
    (500, "persistence_error"),
    (503, "backend_down"),
]


@pytest.fixture
async def kept() -> AsyncIterator[KeptByServer]:
    """A server, of which only the binary port is asked."""
    async with kept_by_server(Profile.IMPROVED) as served:
        yield served


@asynccontextmanager
async def gateway(status: int | None, body: str = HTML) -> AsyncIterator[int]:
    """The port of one that answers everything alike, or with None takes every request and never answers."""
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if status is None:
                await ended.wait()
            else:
                head = f"HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{head}Connection: close\r\n\r\n{body}".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # who asked went away
        finally:
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        ended.set()
        listening.close()


@pytest.mark.parametrize(("status", "cause"), CAUSES)
async def test_f15_a_status_of_a_gateway_ends_a_required_run_before_anything_is_written(
    kept: KeptByServer, status: int, cause: str
) -> None:
    async with gateway(status) as http_port:
        turns = kept.client_by(kept.address.binary.port, http_port=http_port, token=TOKEN)
        with pytest.raises(PersistenceError) as ended:
            await Script(watched(turns, mode="required").recorder).tell()
    assert (ended.value.detail["step"], ended.value.detail["cause"]) == ("publish_bundle", cause)
    assert f"answered {status}" in ended.value.message
    assert TOKEN not in f"{ended.value.message}{ended.value.detail}{ended.value.__cause__}"
    assert len(ended.value.message) < 1_000
    assert not await every_context(await kept.client())


@pytest.mark.parametrize("status", [401, 500, 200])
async def test_f15_a_page_of_a_gateway_is_a_warning_where_the_run_goes_on(kept: KeptByServer, status: int) -> None:
    async with gateway(status) as http_port:
        turns = kept.client_by(kept.address.binary.port, http_port=http_port, token=TOKEN)
        told = watched(turns, mode="best_effort", limits=LIMITS)
        assert (await Script(told.recorder).tell()).outcome == "success"
    assert told.recorder.status.written == 0
    assert told.warnings[0].step == "publish_bundle"
    assert not any(TOKEN in warning.message for warning in told.warnings)


async def test_f15_a_gateway_that_never_answers_costs_what_a_run_may_wait_and_no_more(kept: KeptByServer) -> None:
    limits = RecorderLimits(record_budget_s=SOON_S, failures_max=2, retry_after_s=5)
    async with gateway(None) as http_port:
        turns = kept.client_by(kept.address.binary.port, http_port=http_port)
        told = watched(turns, mode="best_effort", limits=limits)
        assert (await Script(told.recorder).tell()).outcome == "success"
    assert [warning.code for warning in told.warnings] == ["timed_out"] * 2 + [SUSPENDED]
