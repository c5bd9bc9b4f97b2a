"""What there is, in the order in which it is promised, whatever order an engine lists it in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

import obstore
from obstore.store import ObjectStore as Client

from perdure.adapters.objectstore import keys
from perdure.adapters.objectstore.keys import Kept
from perdure.domain.container import Space

_PAGE: Final = 1000  # keys that a cloud gives with one answer


async def below(client: Client, prefix: str) -> Sequence[Kept]:
    """Every put below a prefix, by keys."""
    listed = await obstore.list(client, prefix).collect_async()
    puts = [put for meta in listed if (put := keys.read_object(meta)) is not None]
    return sorted(puts, key=lambda put: put.key)


async def ordered(client: Client, space: Space, *, after: str | None) -> AsyncIterator[Kept]:
    """Every put of a space whose address is above ``after``, by keys, from an engine that lists in their order."""
    offset = None if after is None else keys.after_object(space, after)
    async for batch in obstore.list(client, keys.space_prefix(space), offset=offset, chunk_size=_PAGE):
        for meta in batch:
            put = keys.read_object(meta)
            # Not every engine heeds the offset.
            if put is not None and (after is None or put.ref.digest > after):
                yield put


async def by_shards(client: Client, space: Space, *, after: str | None) -> AsyncIterator[Kept]:
    """As ``ordered``, from an engine that lists in any order: a 256th of a space at a time, put in order here."""
    listed = await obstore.list_with_delimiter_async(client, keys.space_prefix(space))
    for shard in sorted(keys.shard_of(prefix) for prefix in listed["common_prefixes"]):
        if after is None or shard >= after[:2]:
            for put in await below(client, keys.shard_prefix(space, shard)):
                if after is None or put.ref.digest > after:
                    yield put


async def names(client: Client, tenant: str, *, after: str | None, limit: int) -> Sequence[str]:
    """The first keys of names of a tenant's spaces behind a mark."""
    listed = await obstore.list(client, keys.names_prefix(tenant)).collect_async()
    found = sorted(str(meta["path"]) for meta in listed)
    return [key for key in found if after is None or keys.mark_of(key) > after][:limit]
