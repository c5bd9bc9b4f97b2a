"""The embedded server: joined by every process that needs it, stopped by the last one out.

Joining a running server is the rule and starting one the exception. Whoever comes first makes the cluster and starts
the server as a child in a session of its own, so that it outlives its starter when others have joined. All changes of
state happen behind one lock (``Layout.lock``).
"""

from __future__ import annotations

import asyncio
import os
import platform
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.adapters.embedded import bootstrap, cluster, membership, postmaster, privilege
from perdure.adapters.embedded.binaries import Binaries, locate
from perdure.adapters.embedded.credentials import SUPERUSER, ensure_passwords, read_passwords
from perdure.adapters.embedded.layout import Layout, layout_of
from perdure.adapters.embedded.locks import POLL_S, door, lock_within, open_lock
from perdure.adapters.embedded.platforms import require_platform
from perdure.adapters.embedded.status import ClusterState, ClusterStatus, EmbeddedConfig, status
from perdure.errors import BackendDown, Corrupt, Invalid, PerdureError, TimedOut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path
    from typing import Any


@dataclass(slots=True, kw_only=True, eq=False)
class EmbeddedServer:
    """This process's membership of a running server; made by ``join``, ended by ``leave``.

    ``pid`` is the postmaster's, ``port`` is on 127.0.0.1, ``version`` is the release of the programs, such as ``18.4``.
    """

    config: EmbeddedConfig
    layout: Layout
    registration: membership.Registration
    pid: int
    port: int
    version: str

    def __repr__(self) -> str:
        return f"EmbeddedServer(data_dir={str(self.data_dir)!r}, pid={self.pid}, port={self.port})"

    @property
    def data_dir(self) -> Path:
        """The data directory, by its real path."""
        return self.layout.root

    @property
    def joined(self) -> bool:
        """Whether this process still counts as a user of the server."""
        return not self.registration.ended

    def dsn(self, role: str) -> str:
        """The libpq connection string of a role; the password stays in the ``passfile`` it names.

        Raises ``Invalid`` for a role that the configuration does not name.
        """
        return _dsn(self.config, self.layout, role=role, port=self.port)


async def join(config: EmbeddedConfig) -> EmbeddedServer:
    """Join the server of a data directory, starting it (and making the cluster) when it does not run.

    Returns when the server accepts connections and has its roles and database. A cancelled join leaves nothing behind.
    Raises ``Unsupported`` for a platform, programs or a cluster that do not fit, ``Forbidden`` when the directory may
    not be written or root finds no way to step down, ``TimedOut`` after ``start_timeout_s``, ``PersistenceError`` when
    the disk is full, ``BackendDown`` with the last lines of the log when the server does not start, and ``Corrupt``
    when the directory holds something else.
    """
    layout, binaries = await asyncio.to_thread(_open_layout, config)
    async with _door(config, layout):
        pid, port = await _ensure_running(config, layout, binaries)
        registration = membership.Registration(layout)
    return EmbeddedServer(
        config=config, layout=layout, registration=registration, pid=pid, port=port, version=binaries.version
    )


async def rejoin(server: EmbeddedServer) -> None:
    """Start the server again if it died under its users; the port is the same unless somebody took it meanwhile.

    Raises as ``join`` does, and ``Invalid`` after ``leave``.
    """
    if not server.joined:
        raise Invalid("this process has left the embedded server; join it again")
    layout, binaries = await asyncio.to_thread(_open_layout, server.config)
    async with _door(server.config, layout):
        server.pid, server.port = await _ensure_running(server.config, layout, binaries)


async def leave(server: EmbeddedServer) -> None:
    """End this process's use of the server; the last user out stops it, unless it was started by hand.

    Leaving twice does nothing. A cancelled leave has left, and has stopped the server if it was the last.
    """
    if not server.joined:
        return
    # Signing off first: two who leave at once then both see that nobody is left, and the door lets one stop it.
    server.registration.end()
    await _uncancelled(_stop_if_unused(server.config, server.layout))


async def start(config: EmbeddedConfig) -> ClusterStatus:
    """Start the server by hand: it runs without users until ``stop``. Raises as ``join`` does."""
    layout, binaries = await asyncio.to_thread(_open_layout, config)
    async with _door(config, layout):
        await _ensure_running(config, layout, binaries)
        layout.write(layout.held, b"started by hand; 'perdure pg stop' ends it\n")
    return status(config)


async def stop(config: EmbeddedConfig, *, force: bool = False) -> ClusterStatus:
    """Stop a server that was started by hand.

    While it has users it goes on, now without being held, and the last of them stops it; ``force`` stops it under
    them. Stopping what does not run does nothing. Raises ``TimedOut`` when the server does not stop.
    """
    layout = layout_of(config.data_dir)
    if status(config).state is not ClusterState.NOT_CREATED:
        await _uncancelled(_stop_if_unused(config, layout, release=True, force=force))
    return status(config)


def dsn(config: EmbeddedConfig, *, role: str, portable: bool = False) -> str:
    """The connection string of a role to the running server, without joining it.

    ``portable`` leaves out what only libpq 16 and later know. Raises ``BackendDown`` when the server does not run and
    ``Invalid`` for an unknown role.
    """
    now = status(config)
    if now.state is not ClusterState.RUNNING or now.port is None:
        raise BackendDown(
            f"the embedded server in {now.data_dir} does not run ({now.state}); start it with: perdure pg start "
            f"--data-dir '{now.data_dir}'",
            code="not_running",
            state=str(now.state),
        )
    return _dsn(config, layout_of(config.data_dir), role=role, port=now.port, portable=portable)


def _dsn(config: EmbeddedConfig, layout: Layout, *, role: str, port: int, portable: bool = False) -> str:
    if role not in config.roles:
        raise Invalid(f"the embedded database has no role {role!r}; it has {', '.join(config.roles)}", role=role)
    return bootstrap.conninfo(layout, role=role, database=config.database, port=port, portable=portable)


def _open_layout(config: EmbeddedConfig) -> tuple[Layout, Binaries]:
    require_platform(platform.system(), platform.machine())
    binaries = locate(config.bin_dir)
    layout = layout_of(config.data_dir)
    cluster.require_same_major(layout, binaries)
    layout.create()
    return layout, binaries


@asynccontextmanager
async def _door(config: EmbeddedConfig, layout: Layout) -> AsyncIterator[None]:
    async with door(layout.lock, timeout_s=config.start_timeout_s):
        layout.give_to_owner(layout.lock)
        layout.bound_log()
        yield


async def _ensure_running(config: EmbeddedConfig, layout: Layout, binaries: Binaries) -> tuple[int, int]:
    """The pid and port of the running, prepared server, started if need be; call it behind the door."""
    membership.forget_dead_users(layout)
    if (found := await _running(config, layout)) is None:
        return await _start(config, layout, binaries)
    if not bootstrap.is_prepared(layout, roles=config.roles, database=config.database):
        await bootstrap.prepare(layout, roles=config.roles, database=config.database, port=found[1])
    return found


async def _running(config: EmbeddedConfig, layout: Layout) -> tuple[int, int] | None:
    """The pid and port of the server as soon as it lets us in, None when none of its processes lives."""
    deadline = asyncio.get_running_loop().time() + config.start_timeout_s
    refused: BackendDown | None = None
    while postmaster.is_alive(layout):
        # Its starter or stopper may have been killed half way: wait for what it becomes, ready or gone.
        found = cluster.read_pid_file(layout)
        if found is not None and found.ready:
            try:
                await _recognise(layout, found)
            except BackendDown as exc:
                refused = exc
            else:
                return found.pid, found.port
        if asyncio.get_running_loop().time() >= deadline:
            raise TimedOut(
                f"processes of the embedded server in {layout.root} live, but it did not become usable within "
                f"{config.start_timeout_s:g} s; look at {layout.log}, end them (postmaster.pid in {layout.cluster} "
                "names the first) and try again",
                path=str(layout.root),
            ) from refused
        await asyncio.sleep(POLL_S)
    return None


async def _recognise(layout: Layout, found: cluster.PidFile) -> None:
    """Return when the server lets our superuser in; writes it down if its starter was killed before it did.

    Only this cluster's server knows the password's verifier, so whoever lets us in is the one ``postmaster.pid`` names.
    """
    if SUPERUSER not in read_passwords(layout):
        raise Corrupt(
            f"{layout.passwords} lacks the superuser's password while the server runs; stop it with: perdure pg stop "
            f"--force --data-dir '{layout.root}', and start it again: new passwords are then made",
            code="passfile_incomplete",
            path=str(layout.passwords),
        )
    await (await bootstrap.connect_superuser(layout, database=SUPERUSER, port=found.port)).close()
    if postmaster.last_started(layout) != {"pid": found.pid, "port": found.port}:
        fd = open_lock(layout.server_lock)
        try:
            postmaster.remember(fd, pid=found.pid, port=found.port)
        finally:
            os.close(fd)


async def _start(config: EmbeddedConfig, layout: Layout, binaries: Binaries) -> tuple[int, int]:
    fd = open_lock(layout.server_lock)
    try:
        layout.give_to_owner(layout.server_lock)
        await lock_within(fd, timeout_s=config.start_timeout_s, path=layout.server_lock)
        run_as = await asyncio.to_thread(privilege.choose, layout, binaries, privilege=config.privilege)
        existed = layout.cluster.exists()
        if not existed:
            layout.prepared.unlink(missing_ok=True)
        known = SUPERUSER in read_passwords(layout)
        password = ensure_passwords(layout, (SUPERUSER, *config.roles))[SUPERUSER]
        tool: dict[str, Any] = {
            "run_as": run_as,
            "password": password,
            "server_lock": fd,
            "timeout_s": config.start_timeout_s,
        }
        if not existed:
            await cluster.create_cluster(layout, binaries, **tool)
        run_as.own(layout.cluster)
        postmaster.forget_dead_server(layout)
        if existed and not (known and layout.prepared.exists()):
            layout.prepared.unlink(missing_ok=True)
            await cluster.reset_superuser(layout, binaries, **tool)
        pid, port = await postmaster.start_server(
            layout, binaries, run_as=run_as, settings=config.settings, server_lock=fd, timeout_s=config.start_timeout_s
        )
    finally:
        # Only our descriptor: the lock stays with the server's processes, and falls with the last of them.
        os.close(fd)
    try:
        if not bootstrap.is_prepared(layout, roles=config.roles, database=config.database):
            await bootstrap.prepare(layout, roles=config.roles, database=config.database, port=port)
    except BaseException:
        await _uncancelled(postmaster.stop_server(layout))
        raise
    return pid, port


async def _stop_if_unused(
    config: EmbeddedConfig, layout: Layout, *, release: bool = False, force: bool = False
) -> None:
    async with _door(config, layout):
        if release:
            layout.held.unlink(missing_ok=True)
        membership.forget_dead_users(layout)
        if force or not (layout.held.exists() or membership.living_users(layout)):
            if postmaster.is_alive(layout) and not postmaster.is_known(layout):
                await _running(config, layout)
            await postmaster.stop_server(layout)


async def _uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Finish ``work`` even when the caller is cancelled meanwhile, then let the cancellation through."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
        except PerdureError:
            break
    if cancelled is not None:
        raise cancelled
    task.result()
