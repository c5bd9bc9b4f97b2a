"""The audit record of a write to a routed store: who did what where, and never a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from perdure.domain.kinds import Kind

AUDITS_PAGE_DEFAULT: Final = 100  # a screenful
AUDITS_PAGE_MAX: Final = 500  # one page; a record is small


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAudit:
    """One write.

    ``outcome`` is ``ok`` or the code of the error; kept durably, in the commit that it describes, it is ``committed``,
    and ``duration_s`` (seconds) is None.
    """

    audit_id: UUID
    kind: Kind
    backend: str
    operation: str
    container: str
    tenant: str
    project: str
    actor: str
    request_id: str | None
    trace_id: str | None
    occurred_at: datetime
    outcome: str
    duration_s: float | None = None
