"""What the plane needs of a store of versioned rows: tables and blackboards are kept in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.domain.store_audit import StoreAudit
from perdure.domain.versioned import RowPage, RowWrite, VersionedRow


class RowStore(Protocol):
    """Versioned rows of one backend.

    Consistency, failures and ``timeout_s`` are as in ``LogStore``; what may be asked is checked before anything is sent
    (``perdure.ports.row_rules``), and a container of another (mode, env) than the store's is ``Invalid``. A row
    past ``expires_at`` is absent everywhere, for reads, pages and expectations; written again it begins at version 1
    with a new incarnation. Time is the store's own.
    """

    async def get(self, rows: Container, keys: Sequence[str], *, timeout_s: float) -> Mapping[str, VersionedRow]:
        """The rows with these keys that are there; at most ``ROWS_GET_MAX`` keys, one request."""
        ...

    async def write(
        self,
        rows: Container,
        writes: Sequence[RowWrite],
        *,
        audit: StoreAudit | None = None,
        timeout_s: float,
    ) -> Sequence[VersionedRow | None]:
        """Put and delete 1 to ``ROW_WRITES_MAX`` rows of different keys, all or none; new rows, None for deletions.

        A put over a row raises its version by one and keeps ``created_at`` and incarnation; a first put is version 1.
        An expectation that does not hold is ``StaleVersion``, with ``key`` and ``found`` (its version, 0: none) in the
        detail.
        A put without expectation always succeeds, whoever else writes. ``audit`` is kept in the same commit.
        """
        ...

    async def query(
        self,
        rows: Container,
        *,
        prefix: str = "",
        after: str | None = None,
        limit: int,
        reverse: bool = False,
        timeout_s: float,
    ) -> RowPage:
        """Rows whose keys begin with ``prefix``, in the order of the keys' UTF-8 bytes, strictly after ``after``.

        With ``reverse`` the order is the opposite, and ``after`` means before. Rows that are not touched meanwhile
        come exactly once over all pages. A page may end before ``limit`` at ``ROWS_PAGE_BYTES_MAX`` of values; only
        ``more`` says whether the range goes on, and a page with ``more`` is never empty.
        """
        ...

    async def erase(self, rows: Container, *, timeout_s: float) -> int:
        """Remove every row of a container, and its name from this store; returns how many rows.

        Of rows that are written meanwhile, each is removed or stays. Interrupted, it has removed some of them, and is
        finished by erasing again.
        """
        ...

    async def containers(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """Containers of a tenant that hold a row, as ``LogStore.containers``."""
        ...

    async def restore(self, rows: Container, values: Sequence[VersionedRow], *, timeout_s: float) -> None:
        """Write rows of another store as they are: versions, incarnations, times. At most ``ROW_WRITES_MAX`` rows.

        For copying; what is there under the same key is overwritten.
        """
        ...

    async def sweep(self, *, limit: int, timeout_s: float) -> int:
        """Remove rows past their lifetime, of any tenant, up to ``limit``; returns how many."""
        ...

    async def audits(
        self, rows: Container, *, after: UUID | None = None, limit: int, timeout_s: float
    ) -> Sequence[StoreAudit]:
        """The records that were kept with commits to these rows, as ``LogStore.audits``. They outlive the rows."""
        ...
