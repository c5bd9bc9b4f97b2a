"""What test files of stores of objects share: how a byte is changed where the client keeps it."""

from __future__ import annotations

from typing import TypeAlias

import obstore
from obstore.store import AzureStore, LocalStore, MemoryStore, S3Store

from perdure.adapters.objectstore.keys import object_prefix
from perdure.domain.container import Space

Client: TypeAlias = MemoryStore | LocalStore | S3Store | AzureStore


async def flip_a_byte(client: Client, space: Space, digest: str) -> None:
    """Change the byte in the middle of each copy of an object."""
    for meta in await obstore.list(client, object_prefix(space, digest)).collect_async():
        found = await obstore.get_async(client, meta["path"])
        kept = bytearray(await found.bytes_async())
        kept[len(kept) // 2] ^= 1
        await obstore.put_async(client, meta["path"], bytes(kept))
