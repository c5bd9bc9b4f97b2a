"""``perdure cxdb-serve`` as a user runs it: a process with two ports, until it is stopped or killed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.compose.cxdb import Serving, served
from perdure.errors import Forbidden, Invalid, PerdureError, Unavailable
from tests.adapters.cxdb.server.conversing import FORK, Client

SERVE = (sys.executable, "-P", "-m", "perdure.cli.main", "cxdb-serve")
TIMEOUT_S = 120
PROFILES = pytest.mark.parametrize("profile", ["improved", "strict"])
BOTH_PORTS = ("--port", "0", "--http-port", "0", "--json")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - that is the point


@dataclass(frozen=True, slots=True)
class Running:
    """A server that said where it listens."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def client(self) -> Client:
        """A connection to the binary port."""
        return Client(self.said["port"])

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """The JSON of an answer over HTTP."""
        url = f"http://127.0.0.1:{self.said['http_port']}{path}"
        with httpx.Client(trust_env=False, timeout=TIMEOUT_S) as http:
            answer = http.request(method, url, json=body or None)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def turns(self, context: int, **query: Any) -> list[tuple[int, int, int, str]]:
        """What HTTP shows of a context: ids, parents, depths, contents in hex."""
        query |= {"view": "raw", "bytes_render": "hex", "u64_format": "number"}
        words = "&".join(f"{name}={value}" for name, value in query.items())
        shown = self.ask("GET", f"/v1/contexts/{context}/turns?{words}")["turns"]
        return [(one["turn_id"], one["parent_turn_id"], one["depth"], one["bytes_hex"]) for one in shown]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code after a signal, and what it said on stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, errors


@contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """A server on free ports, killed at the end unless it was stopped."""
    process = subprocess.Popen(
        [*SERVE, *BOTH_PORTS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()
        yield Running(process, json.loads(line))
    finally:
        process.kill()
        process.communicate()


def environment() -> dict[str, str]:
    """That of this test, in which proxies are nothing to a server on this machine."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


def refused(*arguments: str) -> str:
    """What a server that does not start says in its last line; it listens nowhere and ends with 1."""
    done = subprocess.run(
        [*SERVE, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment()
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("perdure: "), done.stderr
    return last


def converse(server: Running) -> tuple[int, list[tuple[int, int, int, str]]]:
    """A conversation to which both ports add, and what is in it."""
    context = int(server.ask("POST", "/v1/contexts/create")["context_id"])
    with server.client() as client:
        first, _ = client.append(context, b"\xa5first")
        made = server.ask("POST", f"/v1/contexts/{context}/append", type_id="t", type_version=1, data="second")
        second = int(made["turn_id"])
        third, _ = client.append(context, b"\xa5third")
        assert client.head(context) == (third, 2)
    expected = [(first, 0, 0, b"\xa5first"), (second, first, 1, b"\xa6second"), (third, second, 2, b"\xa5third")]
    found = [(*ids, content.hex()) for *ids, content in expected]
    assert server.turns(context) == found
    assert server.turns(context, before_turn_id=third, limit=1) == found[1:2]
    return context, [(one[0], one[1], one[2], one[3]) for one in server.turns(context)]


@PROFILES
def test_turns_in_memory_are_served_on_both_ports_until_the_process_is_told_to_stop(profile: str) -> None:
    with running("--store", "memory://", "--profile", profile) as server:
        assert server.said["host"] == "127.0.0.1"
        context, turns = converse(server)
        if profile == "strict":
            assert (context, [one[0] for one in turns]) == (1, [1, 2, 3])
        code, errors = server.stop()
    assert (code, errors.splitlines()[-1]) == (0, "stopped")
    assert "Traceback" not in errors


def test_ctrl_c_ends_as_well() -> None:
    with running("--store", "memory://", "--profile", "strict") as server, server.client() as client:
        client.new_context()
        code, errors = server.stop(signal.SIGINT)
        assert client.closed()
    assert (code, errors.splitlines()[-1]) == (0, "stopped")


@PROFILES
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_directory_keeps_turns_however_the_process_ends(tmp_path: Path, profile: str, ending: signal.Signals) -> None:
    where = ("--store", str(tmp_path / "turns"), "--profile", profile)
    with running(*where) as server:
        context, turns = converse(server)
        code, _ = server.stop(ending)
        assert code == (0 if ending is signal.SIGTERM else -signal.SIGKILL)
    with running(*where) as server:
        assert server.turns(context) == turns
        last = turns[-1][0]
        with server.client() as client:
            assert client.head(context) == (last, 2)
            fork, head, depth = struct.unpack("<QQI", client.answer(FORK, struct.pack("<Q", last)))
            assert (head, depth) == (last, 2)
            added, _ = client.append(fork, b"\xa4more")
        assert server.turns(fork) == [*turns, (added, last, 3, b"\xa4more".hex())]
        if profile == "strict":
            assert (fork, added) == (context + 1, last + 1)


def test_the_embedded_plane_is_served_and_keeps_turns(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "plane"))
    with running(*where) as server:
        context, turns = converse(server)
        assert server.stop()[0] == 0
    with running(*where) as server:
        assert server.turns(context) == turns
        assert server.stop()[0] == 0


def test_http_may_be_left_out_and_the_address_is_said_in_words() -> None:
    process = subprocess.Popen(
        [*SERVE, "--port", "0", "--no-http", "--store", "memory://"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("turns of t_cxdb are served on 127.0.0.1:"), line
        assert "HTTP" not in line
        with Client(int(line.partition("127.0.0.1:")[2].split()[0])) as client:
            client.new_context()
    finally:
        process.kill()
        process.communicate()


def test_an_unknown_profile_is_refused() -> None:
    assert "expected improved or strict" in refused("--profile", "lenient", "--store", "memory://")


@pytest.mark.parametrize("http", [("--no-http",), ("--http-port", "0")], ids=["binary", "both"])
def test_an_address_that_others_reach_is_refused_on_either_port(http: tuple[str, ...]) -> None:
    assert "--allow-remote" in refused("--host", EVERYWHERE, "--port", "0", *http, "--store", "memory://")


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "cxdb.example", "localhost.example", ""])
async def test_no_address_that_others_reach_is_served_before_the_store_is_opened(tmp_path: Path, host: str) -> None:
    store = tmp_path / "turns"
    with pytest.raises(Forbidden, match="--allow-remote"):
        async with served(Serving(host=host, port=0, http_port=None, store=str(store))):
            raise AssertionError("it listens")
    assert not store.exists()


def test_an_address_that_others_reach_is_served_if_it_is_allowed() -> None:
    with running("--host", EVERYWHERE, "--allow-remote", "--store", "memory://") as server:
        assert server.said["host"] == EVERYWHERE
        converse(server)


@pytest.mark.parametrize(("option", "other"), [("--port", "--http-port"), ("--http-port", "--port")])
def test_a_port_that_is_taken_is_one_clear_line(option: str, other: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = refused(option, port, other, "0", "--profile", "strict", "--store", "memory://")
    assert f"port {port} ({option}): it is in use" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
async def test_an_address_that_is_not_here_is_invalid(host: str) -> None:
    with pytest.raises(Invalid, match="no such address"):
        async with served(Serving(host=host, port=0, http_port=None, store="memory://", allow_remote=True)):
            raise AssertionError("it listens")


async def test_a_port_that_was_taken_is_free_for_both_once_it_is_given_back() -> None:
    wanted = Serving(port=0, http_port=0, store="memory://")
    async with served(wanted) as listening:
        assert listening.http_port is not None
        taken = replace(wanted, port=listening.http_port)
        with pytest.raises(Unavailable) as caught:
            async with served(taken):
                raise AssertionError("it listens")
        assert caught.value.code == "port_in_use"
        assert caught.value.detail == {"host": "127.0.0.1", "port": listening.http_port}
    async with served(replace(wanted, port=listening.http_port, http_port=listening.port)) as again:
        assert (again.port, again.http_port) == (listening.http_port, listening.port)


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.EACCES, Forbidden), (errno.EADDRNOTAVAIL, Invalid), (errno.ENFILE, Unavailable)]
)
async def test_whatever_keeps_it_from_listening_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[PerdureError]
) -> None:
    async def start(*_: object, **__: object) -> None:
        raise OSError(number, "the system's own words")

    monkeypatch.setattr(asyncio, "start_server", start)
    with pytest.raises(kind, match=r"cannot listen on 127\.0\.0\.1 port 7 \(--port\): "):
        async with served(Serving(port=7, http_port=None, store="memory://")):
            raise AssertionError("it listens")


def test_a_directory_that_cannot_be_one_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    assert "directory" in refused("--store", str(tmp_path / "file" / "turns"), *BOTH_PORTS)
