"""The logger provider of a program as a backend: it takes telemetry, and nothing else."""

from __future__ import annotations

from typing import Final, NoReturn

from perdure.adapters.otel.telemetry import OtelTelemetry
from perdure.domain.telemetry import ENTRY_BYTES_MAX, WRITE_BYTES_MAX, WRITE_ENTRIES_MAX
from perdure.errors import Unsupported
from perdure.ports.capabilities import Capabilities

# What is said of documents has no meaning here.
CAPABILITIES: Final = Capabilities(
    consistency="session",
    durable=True,
    shared=True,
    ttl=False,
    change_feed=False,
    node_local=False,
    document_bytes_max=ENTRY_BYTES_MAX,
    sort_bytes_max=16,
    partition_name_bytes_max=16,
    batch_writes_max=WRITE_ENTRIES_MAX,
    batch_bytes_max=WRITE_BYTES_MAX,
    partition_bytes_max=None,
)


class OtelBackend:
    """What the program's provider is. It is the program's to shut down."""

    def __init__(self, telemetry: OtelTelemetry | None = None) -> None:
        self._telemetry = telemetry if telemetry is not None else OtelTelemetry()

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

    @property
    def logs(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_telemetry()

    @property
    def rows(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_telemetry()

    @property
    def routes(self) -> NoReturn:
        """None. Raises ``Unsupported``."""
        raise _only_telemetry()

    @property
    def objects(self) -> None:
        """None."""
        return

    @property
    def turns(self) -> None:
        """None."""
        return

    @property
    def work(self) -> None:
        """None."""
        return

    @property
    def telemetry(self) -> OtelTelemetry:
        """Where telemetry goes."""
        return self._telemetry

    async def probe(self, *, timeout_s: float) -> None:
        """Nothing to ask: whether an exporter reaches anybody is seen when it exports."""

    async def close(self) -> None:
        """Nothing to let go of. Safe to call twice."""


def _only_telemetry() -> Unsupported:
    return Unsupported("this backend takes telemetry and nothing else; route the kind to another one")
