"""A backend: something that runs and keeps kinds; and a backend's specification: what it takes to run one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from perdure.domain.ids import MODES, Mode
from perdure.domain.kinds import Kind
from perdure.domain.route import ConfigValue
from perdure.ports.capabilities import Capabilities
from perdure.ports.environment import Environment
from perdure.ports.logs import LogStore
from perdure.ports.objects import ObjectStore
from perdure.ports.routes import RouteStore
from perdure.ports.rows import RowStore
from perdure.ports.secrets import Secrets
from perdure.ports.telemetry import TelemetryStore
from perdure.ports.turns import TurnStore
from perdure.ports.work import WorkStore

FieldType: TypeAlias = Literal["text", "secret", "integer", "flag"]

# What is kept in logs and rows, and so on every backend that has these.
LOGS_AND_ROWS: Final = frozenset({Kind.STREAMS, Kind.TABLES, Kind.MEMORY, Kind.ROUTES, Kind.TURNS})
# What every backend keeps that has these: the kinds with a port of their own over the same documents, or tables.
STORED: Final = LOGS_AND_ROWS | {Kind.WORK, Kind.TELEMETRY}


class Backend(Protocol):
    """A running backend of one (mode, env). Whoever opened it closes it, when nothing is under way any more.

    It has what its specification's ``kinds`` need; the rest raises ``Unsupported``, or is None.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def logs(self) -> LogStore:
        """Where streams, sessions and the turns of contexts are kept."""
        ...

    @property
    def rows(self) -> RowStore:
        """Where tables, blackboards and the names of contexts are kept."""
        ...

    @property
    def routes(self) -> RouteStore:
        """Where routes are kept, if this backend holds the registry."""
        ...

    @property
    def objects(self) -> ObjectStore | None:
        """Where objects are kept; None on a backend that keeps none."""
        ...

    @property
    def turns(self) -> TurnStore | None:
        """Where turns are kept, if not in logs and rows."""
        ...

    @property
    def work(self) -> WorkStore | None:
        """Where units of work are kept; None on a backend that keeps none."""
        ...

    @property
    def telemetry(self) -> TelemetryStore | None:
        """Where telemetry is kept; None on a backend that keeps none."""
        ...

    async def probe(self, *, timeout_s: float) -> None:
        """Ask for a sign of life that reaches the data; raises what a read would raise."""
        ...

    async def close(self) -> None:
        """Let go of everything. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigField:
    """A field of a backend's configuration. ``secret`` takes references only (``secret://env/NAME``).

    With ``choices`` it is one of these.
    """

    name: str
    type: FieldType = "text"
    required: bool = False
    about: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRequest:
    """What a backend is opened with: a checked configuration, and what the plane lends to it.

    ``data_dir`` is where node-local backends put relative paths.
    """

    config: Mapping[str, ConfigValue]
    mode: Mode
    env: str
    data_dir: Path
    secrets: Secrets
    environment: Environment
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """A backend that routes may name.

    ``lab_only`` backends are refused in every mode but lab. ``extra`` is what to install, as in
    ``pip install perdure[extra]``; None for what comes with the library. ``open`` raises ``Unsupported`` if the extra
    is not installed. ``kinds`` are those that it can keep. A route is copied from and to backends that say ``copies``.
    """

    name: str
    lab_only: bool
    config: tuple[ConfigField, ...]
    open: Callable[[BackendRequest], Awaitable[Backend]]
    extra: str | None = None
    cost_notes: str = ""
    kinds: frozenset[Kind] = STORED
    copies: bool = True

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes in which it may be used: an allow-list."""
        return frozenset({"lab"}) if self.lab_only else frozenset(MODES)
