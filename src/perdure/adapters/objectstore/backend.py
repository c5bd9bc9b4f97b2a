"""A backend that keeps objects and nothing else."""

from __future__ import annotations

from typing import Final, NoReturn

from perdure.domain.object import OBJECT_BYTES_MAX
from perdure.errors import Unsupported
from perdure.ports.capabilities import Capabilities
from perdure.ports.objects import ObjectStore

# One object at a time is all that is atomic here, and all that is needed.
CAPABILITIES: Final = Capabilities(
    consistency="strong",
    durable=True,
    shared=True,
    ttl=False,
    change_feed=False,
    node_local=False,
    document_bytes_max=OBJECT_BYTES_MAX,
    sort_bytes_max=0,
    partition_name_bytes_max=0,
    batch_writes_max=1,
    batch_bytes_max=OBJECT_BYTES_MAX,
    partition_bytes_max=None,
)


class ObjectBackend:
    """Objects of one (mode, env) in an object store. Its specification names no other kind, so none is asked of it."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

    @property
    def logs(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_objects()

    @property
    def rows(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_objects()

    @property
    def routes(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_objects()

    @property
    def objects(self) -> ObjectStore:
        """Where objects are kept."""
        return self._objects

    @property
    def turns(self) -> None:
        """None."""
        return

    @property
    def work(self) -> None:
        """None."""
        return

    @property
    def telemetry(self) -> None:
        """None."""
        return

    async def probe(self, *, timeout_s: float) -> None:
        """Ask the store something small."""
        await self._objects.probe(timeout_s=timeout_s)

    async def close(self) -> None:
        """Let go of the client. Safe to call twice."""
        await self._objects.close()


def _only_objects() -> Unsupported:
    return Unsupported("this backend keeps objects and nothing else; route the kind to another one")
