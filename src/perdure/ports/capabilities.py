"""What a backend can do and how much of it, as one value: code and tests ask it, never for a backend's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Consistency: TypeAlias = Literal["strong", "session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Limits and abilities of a backend, as its vendor documents them.

    ``consistency`` is that of reads: ``strong`` sees every acknowledged write of anybody, ``session`` those of the same
    client. ``durable`` means that what was acknowledged survives the process, ``shared`` that several processes may use
    the same data at the same time. ``ttl`` and ``change_feed`` say that the engine itself can remove what has expired
    and can announce changes; neither is needed for anything to be right. ``node_local`` means that the data is on one
    machine, where no other instance finds it: only lab may use such a backend. ``batch_writes_max`` counts the
    operations of one atomic commit, all of one partition, and ``batch_bytes_max`` their bytes.
    ``partition_bytes_max`` is None where no limit is documented.
    """

    consistency: Consistency
    durable: bool
    shared: bool
    ttl: bool
    change_feed: bool
    node_local: bool
    document_bytes_max: int
    sort_bytes_max: int
    partition_name_bytes_max: int
    batch_writes_max: int
    batch_bytes_max: int
    partition_bytes_max: int | None
