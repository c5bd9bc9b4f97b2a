"""Audit records kept beside what they tell of: in the same partition, and so in the same commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import msgspec

from perdure.adapters.documents import keys
from perdure.adapters.documents.decoding import decoded
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.store_audit import StoreAudit
from perdure.ports.documents import SCAN_DOCUMENTS_MAX, Expect, Put

_RECORD: Final = msgspec.json.Decoder(StoreAudit)


def audit_put(audit: StoreAudit) -> Put:
    """What to add to a commit so that its record is kept; the same record again is the same document."""
    return Put(sort=keys.audit_sort(audit.audit_id), version=1, body=msgspec.json.encode(audit), expect=Expect.ANY)


async def read_audits(
    driver: ResilientDriver, partition: str, *, after: UUID | None, limit: int, timeout_s: float
) -> Sequence[StoreAudit]:
    """Records of a partition above ``after``, in the order of their ids; fewer than ``limit`` only at the end."""
    patience = driver.patience(timeout_s)
    start, end = keys.audit_range()
    if after is not None:
        start = keys.after(keys.audit_sort(after))
    records: list[StoreAudit] = []
    while True:
        page = await driver.scan(
            partition,
            start=start,
            end=end,
            limit=min(limit - len(records), SCAN_DOCUMENTS_MAX),
            timeout_s=patience.left_s,
        )
        records += [decoded(_RECORD, document, what="an audit record") for document in page.documents]
        if not page.more or len(records) == limit:
            return records
        start = keys.after(page.documents[-1].sort)
