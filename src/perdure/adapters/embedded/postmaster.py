"""The server as an operating-system process: started, found alive or dead, stopped.

The postmaster inherits the descriptor of ``server.lock`` with the lock on it, and so do all its children. The lock is
free exactly when none of them lives: that cannot be mistaken for a reused pid, a zombie, or a backend that outlived its
postmaster for an instant, each of which makes PostgreSQL itself refuse to start ("is another postmaster running").
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from perdure.adapters.embedded.binaries import server_environment
from perdure.adapters.embedded.cluster import read_pid_file
from perdure.adapters.embedded.failures import from_os_error, from_output, last_lines
from perdure.adapters.embedded.locks import POLL_S, is_held
from perdure.errors import BackendDown, TimedOut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perdure.adapters.embedded.binaries import Binaries
    from perdure.adapters.embedded.layout import Layout
    from perdure.adapters.embedded.privilege import RunAs

STOP_TIMEOUT_S: Final = 60.0
"""How long a fast shutdown may take before the server is told to stop at once, leaving recovery to the next start."""

_LOG_TAIL_BYTES: Final = 16_384
_PORT_ATTEMPTS_MAX: Final = 5
_KILL_TIMEOUT_S: Final = 10

_children: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""Servers that this process started and has not yet reaped; a server may outlive our interest in it."""


@atexit.register
def _let_them_live() -> None:
    """A server that others have joined outlives this process by design: that is no resource forgotten."""
    for child in _children.values():
        child.returncode = 0


def server_settings(port: int) -> dict[str, str]:
    """The settings every embedded server runs with."""
    return {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "on",
        "full_page_writes": "on",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Neither statements nor key values of a tenant belong into a log file.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
        "log_checkpoints": "off",
        "logging_collector": "off",
    }


def is_alive(layout: Layout) -> bool:
    """Whether any process of the server (or of its initdb) lives."""
    _reap()
    return is_held(layout.server_lock)


def _reap() -> None:
    """Take leave of children that ended, so that none stays a zombie."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            del _children[pid]


def forget_dead_server(layout: Layout) -> None:
    """Remove the ``postmaster.pid`` of our own server that was killed; call it holding ``server.lock``.

    A pid file that we did not cause stays: PostgreSQL judges it itself, and refuses if that server lives.
    """
    left = read_pid_file(layout)
    if left is not None and left.pid == last_started(layout).get("pid"):
        (layout.cluster / "postmaster.pid").unlink(missing_ok=True)


def last_started(layout: Layout) -> dict[str, int]:
    """The pid and port that the last start wrote into ``server.lock``; empty when it did not get that far."""
    try:
        told = json.loads(layout.server_lock.read_text("ascii"))
    except (OSError, ValueError):
        return {}
    return {key: value for key, value in told.items() if isinstance(value, int)} if isinstance(told, dict) else {}


def is_known(layout: Layout) -> bool:
    """Whether the server that holds the lock was written down, and so may be signalled.

    A ``postmaster.pid`` alone proves nothing: its number may belong to a bystander by now.
    """
    told, found = last_started(layout).get("pid"), read_pid_file(layout)
    return told is not None and (found is None or found.pid == told)


def remember(server_lock: int, *, pid: int, port: int) -> None:
    """Write down which server holds the lock, so that it is known again when its starter is gone."""
    os.ftruncate(server_lock, 0)
    os.pwrite(server_lock, json.dumps({"pid": pid, "port": port}).encode("ascii"), 0)


async def start_server(
    layout: Layout,
    binaries: Binaries,
    *,
    run_as: RunAs,
    settings: Mapping[str, str],
    server_lock: int,
    timeout_s: float,
) -> tuple[int, int]:
    """Start the server on a free port and wait until it accepts connections; returns its pid and port.

    ``server_lock`` is a descriptor that holds the server's lock. When this raises or is cancelled, nothing is left
    running.
    """
    preferred = last_started(layout).get("port", 0)  # so that a DSN outlives a restart where it can
    os.ftruncate(server_lock, 0)  # what was written down is about a server that is gone
    for attempt in range(1, _PORT_ATTEMPTS_MAX + 1):
        port = _free_port(preferred)
        preferred = 0
        since = _log_bytes(layout)
        child = _spawn(layout, binaries, run_as=run_as, settings=server_settings(port) | dict(settings), fd=server_lock)
        try:
            remember(server_lock, pid=child.pid, port=port)
            if await _became_ready(layout, child, timeout_s=timeout_s, since=since):
                return child.pid, port
        except BaseException:
            _end(child)
            raise
        output = log_tail(layout, since=since)
        _end(child)
        if "Address already in use" not in output or attempt == _PORT_ATTEMPTS_MAX:
            raise from_output(output, doing="starting the embedded PostgreSQL server", path=layout.root)
    raise AssertionError("unreachable: the last attempt returns or raises")


async def stop_server(layout: Layout, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Stop the server and wait until no process of it lives; does nothing when none does.

    Clients still connected are disconnected. Raises ``TimedOut`` when it stops neither fast nor at once.
    """
    for how in (signal.SIGINT, signal.SIGQUIT):
        deadline = asyncio.get_running_loop().time() + timeout_s
        if is_alive(layout) and is_known(layout):
            with suppress(ProcessLookupError):
                os.kill(last_started(layout)["pid"], how)
        while is_alive(layout):
            if asyncio.get_running_loop().time() >= deadline:
                break
            await asyncio.sleep(POLL_S)
        else:
            return
    raise TimedOut(
        f"the embedded server in {layout.root} did not stop within {2 * timeout_s:g} s; look at {layout.log}",
        path=str(layout.root),
    )


def log_tail(layout: Layout, *, since: int = 0) -> str:
    """The end of the server's log, of what was written after its first ``since`` bytes."""
    try:
        with layout.log.open("rb") as log:
            log.seek(max(since, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as exc:
        raise from_os_error(exc, doing="read the log", path=layout.log) from exc


def _log_bytes(layout: Layout) -> int:
    try:
        return layout.log.stat().st_size
    except FileNotFoundError:
        return 0


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself does
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as exc:
                if port == 0:
                    raise BackendDown(f"cannot get a free port on 127.0.0.1: {exc.strerror}") from exc
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("unreachable: port 0 binds or raises")


def _spawn(
    layout: Layout, binaries: Binaries, *, run_as: RunAs, settings: Mapping[str, str], fd: int
) -> subprocess.Popen[bytes]:
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [*run_as.prefix, binaries.program("postgres"), "-D", str(layout.cluster), *options]
    try:
        log = os.open(layout.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            layout.give_to_owner(layout.log)
            child = subprocess.Popen(
                command,
                user=run_as.uid,
                group=run_as.gid,
                extra_groups=None if run_as.uid is None else [],
                pass_fds=(fd,),
                env=server_environment(),
                cwd="/",
                # Its own session: a Ctrl-C for the program that started it is not one for those who joined.
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        finally:
            os.close(log)
    except OSError as exc:
        raise from_os_error(exc, doing="start the server on", path=layout.root) from exc
    _children[child.pid] = child
    return child


async def _became_ready(layout: Layout, child: subprocess.Popen[bytes], *, timeout_s: float, since: int) -> bool:
    """True when the server accepts connections, False when it ended; raises ``TimedOut`` after ``timeout_s``."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while child.poll() is None:
        found = read_pid_file(layout)
        if found is not None and found.pid == child.pid and found.ready:
            return True
        if asyncio.get_running_loop().time() >= deadline:
            raise TimedOut(
                f"the embedded server in {layout.root} did not accept connections within {timeout_s:g} s (recovery "
                f"after a crash can take long: raise start_timeout_s); {layout.log} ends with:\n"
                + last_lines(log_tail(layout, since=since)),
                path=str(layout.root),
            )
        await asyncio.sleep(POLL_S)
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a server that must not stay, whatever state it is in, and reap it."""
    if child.poll() is None:
        child.send_signal(signal.SIGQUIT)  # at once, and it ends its children; what was committed is in the log
        try:
            child.wait(_KILL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(_KILL_TIMEOUT_S)
    _children.pop(child.pid, None)
