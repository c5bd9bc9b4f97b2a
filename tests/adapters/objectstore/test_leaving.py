"""A program that used the client ends as it wants to, however soon after its last request."""

from __future__ import annotations

from tests.support.children import run_child

RUNS = 12  # without the wait about one in three was aborted


async def test_a_program_that_ends_at_once_ends_well() -> None:
    for _ in range(RUNS):
        assert await run_child("tests.adapters.objectstore.short_life", {}) == [20]
