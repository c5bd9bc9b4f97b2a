"""Everything a store of objects promises, in one class.

::

    class TestObjectsOnSomething(ObjectsContract):
        async def open_store(self) -> ObjectStore: ...

        async def damage(self, space: Space, digest: str) -> None: ...
"""

from __future__ import annotations

from perdure.testing.contracts.objects_bytes import ObjectBytesContract
from perdure.testing.contracts.objects_keeping import ObjectKeepingContract
from perdure.testing.contracts.objects_streams import ObjectStreamsContract


class ObjectsContract(ObjectBytesContract, ObjectStreamsContract, ObjectKeepingContract):
    """Every part of the contract; a backend's test file only says how to open it and how its bytes are damaged."""
