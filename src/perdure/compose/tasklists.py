"""Task lists of this node: opened under a root, for a tenant of a plane, or read from the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from perdure.adapters.nodefiles.snapshot_store import NodeFiles
from perdure.core.environment import system_environment
from perdure.core.streams import Streams
from perdure.core.tasklist_keeping import ListKeeper
from perdure.core.tasklist_replica import MakeReplica, TaskListReplica
from perdure.core.tasklist_root import SnapshotRoot
from perdure.core.tasklist_roots import SharedRoots
from perdure.core.tasklist_transports import StreamTransport
from perdure.core.tasklists import TaskList, TaskLists
from perdure.domain.container import Space
from perdure.domain.ids import check_tenant
from perdure.domain.tasklists.configuring import persistence_config, space_name, space_store_id
from perdure.domain.tasklists.failures import SnapshotDecode
from perdure.domain.tasklists.settings import PersistenceConfig, PersistencePolicy, resolve_config
from perdure.errors import Corrupt, LimitExceeded, Unsupported
from perdure.ports.environment import Environment
from perdure.ports.patience import Sleep

EXTRA: Final = "tasklists"

# The lock of a root is held by a process, so who opens a second list of it has to find the first one.
_ROOTS: Final = SharedRoots()


def open_tasklist(
    name: str,
    *,
    root: str | Path | None = None,
    tenant: str | None = None,
    mode: str | None = None,
    initialize_if_missing: bool = False,
    load_older: bool = False,
    settings: Mapping[str, Any] | None = None,
    environment: Environment | None = None,
    sleep: Sleep = asyncio.sleep,
) -> TaskList:
    """Open a task list of this node: ``async with perdure.tasklists.open("sprint", root="state") as sprint``.

    Without ``root`` it is in memory only. With one it is kept in snapshots below that directory, ``tenant``'s in one of
    their own. ``mode`` says what a failure of snapshots does: ``degraded`` (or ``best_effort``; the default) goes on
    and says so in the health, ``strict`` (or ``required``) raises, ``off`` touches no disk. ``initialize_if_missing``
    is the only way in which strict begins a root that has no manifest; ``load_older`` lets strict put damaged snapshots
    aside and load an older one. ``settings`` has what else ``[tasklists]`` of ``perdure.toml`` may say.

    ``environment`` replaces time, chance and ids, ``sleep`` how the time until a checkpoint passes.

    Raises ``Invalid`` for a wrong name or setting, ``Unsupported`` if the extra ``tasklists`` is not installed;
    entering raises what the mode makes of the snapshots.
    """
    given = settings or {}
    place = None if root is None and given.get("root") is None else Path(root if root is not None else given["root"])
    config = persistence_config(
        given, root=None if place is None else str(place), mode=mode, initialize_if_missing=initialize_if_missing
    )
    if place is not None and tenant is not None:
        place /= check_tenant(tenant)
    return _tasklist(
        name,
        place=place,
        config=config,
        load_older=load_older,
        environment=environment if environment is not None else system_environment(),
        sleep=sleep,
    )


def tenant_tasklists(space: Space, settings: Mapping[str, Any], *, environment: Environment) -> TaskLists:
    """The lists of a space on this node, as a plane's settings say."""
    root = settings.get("root")
    place = None if root is None else Path(root) / space_name(space)

    def open_list(name: str, *, initialize_if_missing: bool, load_older: bool) -> TaskList:
        config = persistence_config(settings, initialize_if_missing=initialize_if_missing)
        if config.store_id is None:
            config = replace(config, store_id=space_store_id(space))
        return _tasklist(
            name, place=place, config=config, load_older=load_older, environment=environment, sleep=asyncio.sleep
        )

    async def names() -> Sequence[str]:
        if place is None or not persistence_config(settings).enabled:
            return ()
        return await asyncio.to_thread(list_names, place, environment)

    return TaskLists(open_list, names)


def list_names(root: Path, environment: Environment) -> Sequence[str]:
    """The names of the lists below a root that have a directory, in order. Blocks, and needs no hold."""
    return NodeFiles(root, ids=environment.ids).lists() if root.is_dir() else ()


def decoded(payload: bytes, environment: Environment) -> TaskListReplica:
    """The list of a snapshot's payload. Raises ``SnapshotDecode``."""
    replica = _empty(environment)
    try:
        replica.merge(payload)
    except (Corrupt, LimitExceeded) as exc:
        raise SnapshotDecode(f"the payload is no task list: {exc.message}") from exc
    return replica


def stream_transport(streams: Streams, stream: str, *, environment: Environment | None = None) -> StreamTransport:
    """A transport for ``TaskList.sync`` over a stream, and so over every backend that streams are routed to."""
    used = environment if environment is not None else system_environment()
    return StreamTransport(streams, stream, sender=used.ids.new().hex, environment=used)


def _tasklist(
    name: str,
    *,
    place: Path | None,
    config: PersistenceConfig,
    load_older: bool,
    environment: Environment,
    sleep: Sleep,
) -> TaskList:
    _replica_class()  # what is not installed is said now, and not in a worker thread
    policy = resolve_config(config)
    path = None if place is None or policy is None else os.path.realpath(place)

    def make_root(settled: PersistencePolicy) -> SnapshotRoot:
        assert path is not None, "there is a policy for what has a root only"
        return SnapshotRoot(NodeFiles(Path(path), ids=environment.ids), policy=settled, environment=environment)

    async def take() -> SnapshotRoot | None:
        return None if path is None or policy is None else await _ROOTS.take(path, policy, make=make_root)

    async def give_back() -> None:
        assert path is not None, "what was taken has a path"
        await _ROOTS.give_back(path)

    keeper = ListKeeper(
        decode=lambda payload: decoded(payload, environment),
        make=lambda: _empty(environment),
        take=take,
        give_back=give_back,
        sleep=sleep,
        load_older=load_older,
    )
    return TaskList(name, keeper=keeper, environment=environment, sleep=sleep)


def _empty(environment: Environment) -> TaskListReplica:
    return TaskListReplica(make_replica=_replica_class(), environment=environment)


def _replica_class() -> MakeReplica:
    try:
        from perdure.adapters.crdt.replica import YrsReplica  # noqa: PLC0415 - an extra, needed by who opens a list
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] == "perdure":
            raise
        raise Unsupported(
            f"task lists need a library that is not installed ({exc.name}); install it with: "
            f"pip install 'perdure[{EXTRA}]'",
            extra=EXTRA,
        ) from exc
    return YrsReplica
