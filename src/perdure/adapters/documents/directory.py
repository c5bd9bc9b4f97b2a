"""The names of everything that is kept: where partitions cannot be listed, somebody has to write down which there are.

A name is written down before the first document under it, so nothing that is there is ever missing; a name of which
nothing is there (any more, or yet) is normal, so listing looks at each. Nothing here is atomic with the container,
which is in another partition, so the order of writes is everything:

* Who makes a container: ``announce``, make it, and ``announce`` again, unless the container's own documents keep an
  erasing from running between the first two. Only then is the making acknowledged.
* Who erases one: ``find`` the entry, remove the container, and ``remove`` the entry as found. Each announcement has a
  version of its own, so the entry of somebody who makes it again meanwhile stays.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from perdure.adapters.documents import keys
from perdure.adapters.documents.removals import see_removed
from perdure.adapters.documents.resilience import ResilientDriver
from perdure.domain.container import Container
from perdure.domain.kinds import Kind
from perdure.errors import Corrupt, Invalid
from perdure.ports.documents import SCAN_DOCUMENTS_MAX, Document, Expect, ExpectationFailed, Put, Remove

CHECKS_MAX: Final = 16  # containers that one listing looks at at the same time; more would starve other callers

IsThere: TypeAlias = Callable[[Container], Awaitable[bool]]

_MARK: Final = re.compile(r"c\.(-|[0-9a-v]+)\.[0-9a-v]+\.[0-9a-v]+")


class Directory:
    """The names of all logs, or of all sets of rows, of the tenants of one (mode, env)."""

    def __init__(self, driver: ResilientDriver, *, holds: keys.Holds, mode: str, env: str) -> None:
        self._driver = driver
        self._holds = holds
        self._mode = mode
        self._env = env

    async def announce(self, container: Container, *, timeout_s: float) -> None:
        """Write the name down, whether or not it is there."""
        put = Put(
            sort=keys.directory_sort(container),
            version=self._driver.new_version(),
            body=msgspec.json.encode(container),
            expect=Expect.ANY,
        )
        await self._driver.commit(self._partition_of(container), [put], timeout_s=timeout_s)

    async def find(self, container: Container, *, timeout_s: float) -> int | None:
        """The version of the entry, for ``remove``; None if the name is not there."""
        sort = keys.directory_sort(container)
        found = await self._driver.get(self._partition_of(container), [sort], timeout_s=timeout_s)
        return found[sort].version if sort in found else None

    async def remove(self, container: Container, *, version: int, timeout_s: float) -> bool:
        """Forget the name, unless it was announced again since that version was found; False then."""
        removal = Remove(sort=keys.directory_sort(container), expect=version)
        try:
            await see_removed(self._driver, self._partition_of(container), [removal], timeout_s=timeout_s)
        except ExpectationFailed:
            return False
        return True

    async def list(
        self,
        kind: Kind,
        tenant: str,
        *,
        user: str | None = None,
        after: str | None = None,
        limit: int,
        is_there: IsThere,
        timeout_s: float,
    ) -> tuple[Sequence[Container], str | None]:
        """Containers that are there, and the mark to go on after, or None. Raises ``Invalid`` for what is no mark."""
        if limit < 1:
            raise Invalid(f"a list of {limit}; ask for at least 1")
        partition = keys.directory_partition(self._holds, kind, tenant=tenant, mode=self._mode, env=self._env)
        start, end = keys.directory_range(user)
        if after is not None:
            if _MARK.fullmatch(after) is None or not start < after < end:
                raise Invalid("this is not a mark of this list; hand back the one that came with the page before")
            start = keys.after(after)
        patience = self._driver.patience(timeout_s)
        found: list[Container] = []
        while True:
            page = await self._driver.scan(
                partition,
                start=start,
                end=end,
                limit=min(limit - len(found), SCAN_DOCUMENTS_MAX),
                timeout_s=patience.left_s,
            )
            found += await _those_there([_container(document) for document in page.documents], is_there)
            if not page.more:
                return found, None
            if len(found) == limit:
                return found, page.documents[-1].sort
            start = keys.after(page.documents[-1].sort)

    def _partition_of(self, container: Container) -> str:
        space = container.space
        return keys.directory_partition(
            self._holds, container.kind, tenant=space.tenant, mode=space.mode, env=space.env
        )


async def _those_there(containers: Sequence[Container], is_there: IsThere) -> Sequence[Container]:
    """Those that are there, in their order; a few are looked at at the same time."""
    kept: list[Container] = []
    for first in range(0, len(containers), CHECKS_MAX):
        some = containers[first : first + CHECKS_MAX]
        # All of them end before an error is raised: a task nobody waits for would go on behind the caller's back.
        answers = await asyncio.gather(*(is_there(container) for container in some), return_exceptions=True)
        for container, answer in zip(some, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            if answer:
                kept.append(container)
    return kept


def _container(document: Document) -> Container:
    try:
        return msgspec.json.decode(document.body, type=Container)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Corrupt(
            "an entry of the directory names no container; was it written by something else?", sort=document.sort
        ) from exc
