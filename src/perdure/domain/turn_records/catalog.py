"""Every record there is, and the bundle that describes them to a registry."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from perdure.domain.turn_records.agent_records import AGENT_RECORDS
from perdure.domain.turn_records.fields import RecordType
from perdure.domain.turn_records.link_records import LINK_RECORDS
from perdure.domain.turn_records.pipeline_records import PIPELINE_RECORDS

RECORD_TYPES: Final = (*AGENT_RECORDS, *PIPELINE_RECORDS, *LINK_RECORDS)

# Raised with every change of a table: a registry keeps the bytes of a bundle for ever under its id.
BUNDLE_VERSION: Final = 1
BUNDLE_ID: Final = f"perdure.turns.v{BUNDLE_VERSION}"

_BY_ID: Final[Mapping[tuple[str, int], RecordType]] = MappingProxyType(
    {(record_type.type_id, record_type.version): record_type for record_type in RECORD_TYPES}
)


def find_record_type(type_id: str, *, version: int) -> RecordType | None:
    """The table of a turn's type, or None for one of another program or a later release."""
    return _BY_ID.get((type_id, version))
