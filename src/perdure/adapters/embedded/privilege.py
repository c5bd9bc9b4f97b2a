"""PostgreSQL refuses to run as root. As root there are two ways out, and each is tried for real before it is used.

* A *user namespace*: ``unshare`` maps root to an ordinary id, inside which the server runs. Files stay root's, every
  directory that root reaches is reached. Containers often refuse it.
* A *drop* to the owner of the data directory, or to ``nobody``. The cluster's files become that user's, and every
  directory above the cluster and above the programs must let that user through.

A user who is not root needs neither, unless the user id has no name: initdb asks for one.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from perdure.adapters.embedded.binaries import Binaries, server_environment
from perdure.adapters.embedded.failures import last_lines
from perdure.errors import Forbidden

if TYPE_CHECKING:
    from perdure.adapters.embedded.layout import Layout

Privilege = Literal["auto", "namespace", "drop"]

_NOBODY: Final = 65534
_PROBE_TIMEOUT_S: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """How PostgreSQL's programs are started: behind ``prefix``, as ``uid`` and ``gid`` when they are given."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        """Make a file or directory tree belong to the user the server runs as; a no-op unless we are root.

        The top comes last: what was interrupted is seen and done again.
        """
        if os.geteuid() != 0:
            return
        uid, gid = (0, 0) if self.uid is None or self.gid is None else (self.uid, self.gid)
        if (top := path.stat()).st_uid == uid and top.st_gid == gid:
            return
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.chown(Path(folder, name), uid, gid, follow_symlinks=False)
        os.chown(path, uid, gid)


def choose(layout: Layout, binaries: Binaries, *, privilege: Privilege = "auto") -> RunAs:
    """How to run the server on ``layout``: found by trying, so a container's rules need no guessing.

    As root, ``auto`` takes the namespace, else the drop; a cluster that already belongs to an ordinary user stays that
    user's. Raises ``Forbidden``, naming both ways and why each failed, when neither works.
    """
    if os.geteuid() != 0:
        return _as_we_are(layout, binaries)
    refusals: list[str] = []
    if privilege != "drop" and (privilege == "namespace" or _owner(layout.cluster) in (None, 0)):
        run_as = _namespace()
        refusal = _refusal(run_as, layout, binaries)
        if refusal is None:
            return run_as
        refusals.append(f"a user namespace (unshare -U): {refusal}")
    if privilege != "namespace":
        uid, gid, name = _ordinary_user(layout)
        run_as = RunAs(uid=uid, gid=gid)
        refusal = _refusal(run_as, layout, binaries)
        if refusal is not None and uid != layout.root.stat().st_uid:
            # What is in the directory is 0600 or 0700 on its own account, so passing through shows nothing.
            layout.root.chmod(layout.root.stat().st_mode & 0o7777 | 0o001)
            refusal = _refusal(run_as, layout, binaries)
        if refusal is None:
            return run_as
        refusals.append(f"a drop to {name} (uid {uid}): {refusal}")
    raise Forbidden(
        "PostgreSQL does not run as root, and no way out worked. Tried "
        + "; and ".join(refusals)
        + ". Do one of these: (1) allow user namespaces to this container or machine (unshare from util-linux, and a "
        "seccomp profile and sysctl that permit it); (2) let an ordinary user pass through every directory above "
        f"{layout.root} and {binaries.bin_dir}, or give {layout.root} to the user who shall own it (chown); "
        "(3) run this program as an ordinary user",
        code="root_refused",
        data_dir=str(layout.root),
        tried=refusals,
    )


def _as_we_are(layout: Layout, binaries: Binaries) -> RunAs:
    """No change, unless initdb would not know this user id, as in a container run under an arbitrary one."""
    if layout.cluster.exists() or _has_name(os.geteuid()):
        return RunAs()
    run_as = _namespace()
    refusal = _refusal(run_as, layout, binaries)
    if refusal is None:
        return run_as
    raise Forbidden(
        f"initdb does not work for a user id without a name, and {os.geteuid()} has no entry in /etc/passwd; a user "
        f"namespace (unshare -U), which would give it one, failed: {refusal}. Add an entry, allow user namespaces, or "
        "run as a user who has a name",
        code="nameless_user",
        uid=os.geteuid(),
    )


def _namespace() -> RunAs:
    """A user namespace in which we appear as some user who has a name, because initdb asks for it."""
    named = {entry.pw_uid for entry in pwd.getpwall()} - {0}
    uid = 1000 if 1000 in named else min(named, default=_NOBODY)  # noqa: PLR2004  # the first user of most machines
    return RunAs(prefix=("unshare", "-U", f"--map-user={uid}", f"--map-group={uid}", "--"))


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return None


def _ordinary_user(layout: Layout) -> tuple[int, int, str]:
    """The owner of the cluster, else of the data directory, else nobody."""
    for path, what in ((layout.cluster, "the cluster's owner"), (layout.root, "the data directory's owner")):
        if _owner(path) not in (None, 0):
            found = path.stat()
            return found.st_uid, found.st_gid, what
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return _NOBODY, _NOBODY, "nobody"
    return nobody.pw_uid, nobody.pw_gid, "nobody"


def _refusal(run_as: RunAs, layout: Layout, binaries: Binaries) -> str | None:
    """Try it once: enter the data directory and run the server's program. None means that it worked."""
    if run_as.uid is not None and not layout.cluster.exists() and not _has_name(run_as.uid):
        return f"initdb does not work for a user id without a name, and {run_as.uid} has no entry in /etc/passwd"
    script = 'cd "$1" && exec "$2" --version'
    command = [*run_as.prefix, "/bin/sh", "-c", script, "sh", str(layout.root), str(binaries.bin_dir / "postgres")]
    try:
        subprocess.run(
            command,
            user=run_as.uid,
            group=run_as.gid,
            extra_groups=None if run_as.uid is None else [],
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
            check=True,
            timeout=_PROBE_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as exc:
        return last_lines(exc.stderr) or f"it ended with status {exc.returncode}"
    except (OSError, subprocess.SubprocessError) as exc:
        return str(exc)
    return None
