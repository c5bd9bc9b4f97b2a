"""Audit records that are kept in the commits they describe: written by the functions, read here."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from perdure.adapters.postgres.containers import Place
from perdure.adapters.postgres.patience import Calls, Deadline
from perdure.adapters.postgres.statements import statement
from perdure.domain.store_audit import StoreAudit
from perdure.errors import Corrupt
from perdure.ports.row_rules import check_audits_page


def audit_json(audit: StoreAudit | None) -> str | None:
    """A record as it is kept."""
    return None if audit is None else msgspec.json.encode(audit).decode()


async def read_audits(
    calls: Calls, place: Place, *, after: UUID | None, limit: int, deadline: Deadline
) -> Sequence[StoreAudit]:
    """The records of one container above ``after``, by their ids."""
    check_audits_page(limit)
    wanted = {"tenant_id": place.tenant_id, "container_id": place.container_id, "after": after, "limit": limit}
    ((*rows,),) = await calls.read(place.tenant_id, [(statement("audits/list"), wanted)], deadline=deadline)
    try:
        return [msgspec.json.decode(row["record"], type=StoreAudit) for row in rows]
    except msgspec.MsgspecError as exc:
        raise Corrupt("an audit record cannot be read; was it written by a newer release?") from exc
