"""A route leads a kind only to a backend that keeps it, and whoever asks otherwise is told which ones do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core.backends import Backends
from perdure.core.secrets import SystemSecrets
from perdure.domain.ids import Mode
from perdure.domain.kinds import Kind
from perdure.domain.route import Target
from perdure.errors import Forbidden, NoRoute, Unsupported
from perdure.ports.backend import Backend, BackendRequest, BackendSpec
from perdure.testing.environment import fake_environment
from perdure.testing.routed import given, routed_plane

NOBODY: Final = "opened by nobody"


async def never(request: BackendRequest) -> Backend:
    del request
    raise AssertionError(NOBODY)


def spec(name: str, *kinds: Kind, lab_only: bool = False) -> BackendSpec:
    return BackendSpec(name=name, lab_only=lab_only, config=(), open=never, kinds=frozenset(kinds))


SPECS: Final[Mapping[str, BackendSpec]] = {
    one.name: one
    for one in (
        spec("rows", Kind.TABLES, Kind.STREAMS),
        spec("bucket", Kind.OBJECTS),
        spec("disk", Kind.OBJECTS, Kind.TABLES, lab_only=True),
        spec("remote", Kind.TURNS),
    )
}


def backends(*, mode: Mode = "lab") -> Backends:
    environment = fake_environment()
    request = BackendRequest(
        config={},
        mode=mode,
        env="dev",
        data_dir=Path(),
        secrets=SystemSecrets({}),
        environment=environment,
        timeout_s=1.0,
    )
    return Backends(SPECS, request=request, clock=environment.clock)


def refusal(name: str, kind: Kind, *, mode: Mode = "lab") -> Unsupported:
    with pytest.raises(Unsupported) as caught:
        backends(mode=mode).check(Target(backend=name), kind=kind)
    assert caught.value.code == f"{kind}.unsupported_backend"
    assert caught.value.detail == {"kind": kind.value}
    return caught.value


def test_a_backend_that_keeps_the_kind_is_allowed():
    for name, one in SPECS.items():
        for kind in one.kinds:
            assert backends().check(Target(backend=name), kind=kind) is one


def test_a_backend_that_keeps_other_kinds_is_refused_with_those_that_keep_it():
    assert refusal("rows", Kind.OBJECTS).message == (
        "backend rows keeps streams, tables, but no objects; one of: bucket, disk"
    )
    assert refusal("bucket", Kind.TURNS).message == "backend bucket keeps objects, but no turns; one of: remote"


def test_what_this_mode_does_not_allow_is_not_recommended():
    assert refusal("rows", Kind.OBJECTS, mode="saas").message.endswith("one of: bucket")
    with pytest.raises(Forbidden):
        backends(mode="saas").check(Target(backend="disk"), kind=Kind.OBJECTS)


def test_a_kind_that_nobody_keeps_is_said_to_be_kept_by_nobody():
    assert refusal("rows", Kind.MEMORY).message.endswith("but no memory; no backend keeps them in mode lab")


def test_a_backend_that_there_is_not_is_refused_with_those_that_there_are():
    assert refusal("nowhere", Kind.TABLES).message == (
        "there is no backend 'nowhere'; one of: bucket, disk, remote, rows"
    )


async def test_a_backend_that_keeps_other_kinds_is_never_opened():
    running = backends()
    with pytest.raises(Unsupported):
        async with running.use(Target(backend="rows"), kind=Kind.OBJECTS):
            pytest.fail("it was lent")
    health = await running.probe(Target(backend="rows"), kind=Kind.OBJECTS, timeout_s=1.0)
    assert (health.status, health.problem) == ("unhealthy", "objects.unsupported_backend")
    with pytest.raises(AssertionError, match=NOBODY):
        async with running.use(Target(backend="rows"), kind=Kind.TABLES):
            pytest.fail("it was lent")
    await running.close()


async def test_no_route_and_no_copy_leads_a_kind_to_where_it_is_not_kept():
    environment = fake_environment()
    kept = opening.memory(mode="lab", env="dev", environment=environment)
    whole = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment, objects=kept)
    rows = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    for backend in (whole, rows):
        await backend.open()
    async with routed_plane(
        [given("whole", whole), given("rows", rows)], rows.routes, environment=environment
    ) as plane:
        acme = plane.tenant("t_acme")
        with pytest.raises(Unsupported, match="one of: whole"):
            await acme.routes.set("objects", "rows")
        with pytest.raises(NoRoute):
            await acme.objects.put(b"hello")
        made = await acme.routes.set("objects", "whole")
        ref = await acme.objects.put(b"hello")
        with pytest.raises(Unsupported, match="one of: whole"):
            await acme.routes.switch("objects", "rows", rationale="why", data_stays=True)
        with pytest.raises(Unsupported, match="one of: whole"):
            await acme.routes.copy("objects", "rows", rationale="why", settle_s=0)
        assert await acme.routes.get("objects") == made
        assert await acme.objects.get(ref.digest) == b"hello"
    for backend in (whole, rows):
        await backend.close()
