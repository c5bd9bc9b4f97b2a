"""Seeing to it that documents are gone in the versions in which they were found: cleaning up, whoever does it."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.adapters.documents.resilience import ResilientDriver
from perdure.errors import OutcomeUnknown
from perdure.ports.documents import Remove


async def see_removed(driver: ResilientDriver, partition: str, removals: Sequence[Remove], *, timeout_s: float) -> None:
    """Remove documents of certain versions, all or none.

    When the answer was lost and what was to be removed is gone, nobody can tell who did it (as
    ``ResilientDriver.commit`` says). Who cleans up does not care, so that is no failure here. Raises
    ``ExpectationFailed``, and ``OutcomeUnknown`` while one of them is still there.
    """
    patience = driver.patience(timeout_s)
    try:
        await driver.commit(partition, removals, timeout_s=patience.left_s)
    except OutcomeUnknown:
        found = await driver.get(partition, [removal.sort for removal in removals], timeout_s=patience.left_s)
        if any(removal.sort in found and found[removal.sort].version == removal.expect for removal in removals):
            raise
