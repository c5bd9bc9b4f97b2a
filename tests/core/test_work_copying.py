"""Units of work are not copied from backend to backend: whoever asks is told so before anything begins."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.core.copy_moving import COPIED_KINDS
from perdure.domain.kinds import TENANT_KINDS, Kind
from perdure.errors import Unsupported
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane


async def test_a_route_of_work_is_not_copied_and_the_error_says_what_to_do() -> None:
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()
    ours, other = given("ours", backend), replace(given("other", backend), name="other")
    async with routed_plane([ours, other], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("work", "ours")
        with pytest.raises(Unsupported, match="switch the route") as caught:
            await acme.routes.copy("work", "other", rationale="r", settle_s=0)
        assert caught.value.code == "work.not_copied"
        (route,) = await acme.routes.list()
        assert (route.copy, route.version) == (None, 1)
    await backend.close()


def test_every_kind_is_copied_or_known_not_to_be() -> None:
    assert set(TENANT_KINDS) - COPIED_KINDS == {Kind.WORK, Kind.TELEMETRY}
