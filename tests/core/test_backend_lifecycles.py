"""Backends in use: opened once for everybody, closed when nobody is in them, and never by an accident of timing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import pytest

from perdure.core.backends import BACKENDS_OPEN_MAX, Backends, fingerprint
from perdure.core.secrets import SystemSecrets
from perdure.domain.kinds import Kind
from perdure.domain.limits import INTEGER_MAX
from perdure.domain.route import CONFIG_VALUE_CHARS_MAX, Target
from perdure.errors import BackendDown, Invalid, LimitExceeded, PerdureError
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.testing.environment import fake_environment

TABLES: Final = Kind.TABLES
HERE: Final = Target(backend="a")


@dataclass
class Opened:
    """A backend that was opened, and whether it was closed."""

    number: int
    is_closed: bool = False
    closing: Callable[[], Awaitable[None]] | None = None

    async def probe(self, *, timeout_s: float) -> None:
        """Alive."""
        del timeout_s

    async def close(self) -> None:
        """Closed once."""
        assert not self.is_closed
        if self.closing is not None:
            await self.closing()
        self.is_closed = True


@dataclass
class Factory:
    """Opens backends, as slowly and as badly as a test wants."""

    opened: list[Opened] = field(default_factory=list)
    attempts: int = 0
    gate: asyncio.Event | None = None
    error: Exception | None = None
    closing: Callable[[], Awaitable[None]] | None = None

    async def open(self, request: BackendRequest) -> Backend:
        """Open another one."""
        del request
        self.attempts += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.opened.append(Opened(number=self.attempts, closing=self.closing))
        return cast("Backend", self.opened[-1])

    def backends(self) -> Backends:
        """The backends of a plane with this one under the name a."""
        environment = fake_environment()
        request = BackendRequest(
            config={},
            mode="lab",
            env="dev",
            data_dir=Path(),
            secrets=SystemSecrets({}),
            environment=environment,
            timeout_s=30,
        )
        fields = (
            ConfigField(name="place"),
            ConfigField(name="key", type="secret"),
            ConfigField(name="size", type="integer"),
        )
        spec = BackendSpec(name="a", lab_only=True, config=fields, open=self.open)
        return Backends({"a": spec}, request=request, clock=environment.clock)


async def use(
    backends: Backends, release: asyncio.Event, target: Target = HERE, *, timeout_s: float | None = None
) -> Any:
    """A call that goes on until released; the backend it was in."""
    async with backends.use(target, kind=TABLES, timeout_s=timeout_s) as backend:
        await release.wait()
        assert not cast("Opened", backend).is_closed
    return backend


async def turns(count: int = 20) -> None:
    """Let the others go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_many_calls_at_once_open_it_once() -> None:
    factory = Factory(gate=asyncio.Event())
    backends, release = factory.backends(), asyncio.Event()
    calls = [asyncio.create_task(use(backends, release)) for _ in range(20)]
    await turns()
    assert factory.gate is not None
    factory.gate.set()
    release.set()
    assert {id(one) for one in await asyncio.gather(*calls)} == {id(factory.opened[0])}
    await backends.close()
    assert [one.is_closed for one in factory.opened] == [True]


async def test_who_is_cancelled_while_it_opens_takes_it_from_nobody() -> None:
    factory = Factory(gate=asyncio.Event())
    backends, release = factory.backends(), asyncio.Event()
    first = asyncio.create_task(use(backends, release))
    await turns()
    second = asyncio.create_task(use(backends, release))
    await turns()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert factory.gate is not None
    factory.gate.set()
    release.set()
    await second
    assert factory.attempts == 1
    await backends.close()


async def test_one_that_cannot_be_opened_fails_everybody_who_waited_and_is_tried_anew_by_who_comes_next() -> None:
    factory = Factory(gate=asyncio.Event(), error=BackendDown("nobody there"))
    backends, release = factory.backends(), asyncio.Event()
    calls = [asyncio.create_task(use(backends, release)) for _ in range(5)]
    await turns()
    assert factory.gate is not None
    factory.gate.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(error, "code", error) for error in errors] == ["tables.backend_unavailable"] * 5
    assert factory.attempts == 1
    factory.error = None
    release.set()
    await use(backends, release)
    assert factory.attempts == 2
    await backends.close()


async def test_one_that_does_not_open_in_time_costs_a_call_its_own_time_and_serves_the_next() -> None:
    factory = Factory(gate=asyncio.Event())
    backends, release = factory.backends(), asyncio.Event()
    with pytest.raises(BackendDown, match="not open after"):
        await use(backends, release, timeout_s=0.001)
    assert factory.gate is not None
    factory.gate.set()
    release.set()
    await use(backends, release)
    assert factory.attempts == 1
    await backends.close()


async def test_failures_are_not_counted_as_open() -> None:
    factory = Factory(error=BackendDown("nobody there"))
    backends = factory.backends()
    for number in range(BACKENDS_OPEN_MAX + 1):
        with pytest.raises(BackendDown):
            await use(backends, asyncio.Event(), Target(backend="a", config={"place": f"p{number}"}))
    await backends.close()


async def test_as_many_as_the_limit_may_be_open_and_no_more() -> None:
    backends, release = Factory().backends(), asyncio.Event()
    release.set()
    for number in range(BACKENDS_OPEN_MAX):
        await use(backends, release, Target(backend="a", config={"place": f"p{number}"}))
    with pytest.raises(LimitExceeded, match="backends_open_max"):
        await use(backends, release)
    await backends.close()


async def test_calls_in_a_retired_backend_end_before_it_is_closed() -> None:
    factory, release = Factory(), asyncio.Event()
    backends = factory.backends()
    call = asyncio.create_task(use(backends, release))
    await turns()
    await backends.keep_only(set())
    assert [one.is_closed for one in factory.opened] == [False]
    release.set()
    await call
    await turns()
    assert factory.opened[0].is_closed
    await backends.close()


async def test_a_retired_backend_that_is_wanted_again_while_calls_are_in_it_is_the_same_one() -> None:
    """So the registry's own, in use for as long as the plane runs, is never open twice, whatever the routes say."""
    factory, release = Factory(), asyncio.Event()
    backends = factory.backends()
    call = asyncio.create_task(use(backends, release))
    await turns()
    for _ in range(3):
        await backends.keep_only(set())
        async with backends.use(HERE, kind=TABLES) as again:
            assert again is cast("Any", factory.opened[0])
    release.set()
    await call
    await turns()
    assert len(factory.opened) == 1
    await backends.close()
    assert factory.opened[0].is_closed


async def test_a_backend_that_is_being_closed_is_opened_again_only_after_that() -> None:
    gate = asyncio.Event()
    factory = Factory(closing=gate.wait)  # type: ignore[arg-type]  # what it returns is not looked at
    backends, release = factory.backends(), asyncio.Event()
    release.set()
    await use(backends, release)
    retiring = asyncio.create_task(backends.keep_only(set()))
    await turns()
    again = asyncio.create_task(use(backends, release))
    await turns()
    assert factory.attempts == 1
    gate.set()
    await again
    await retiring
    assert [one.is_closed for one in factory.opened] == [True, False]
    await backends.close()


async def test_one_that_is_retired_while_it_opens_is_closed_after_its_first_call() -> None:
    factory = Factory(gate=asyncio.Event())
    backends, release = factory.backends(), asyncio.Event()
    call = asyncio.create_task(use(backends, release))
    await turns()
    await backends.keep_only(set())
    assert factory.gate is not None
    factory.gate.set()
    release.set()
    await call
    await turns()
    assert factory.opened[0].is_closed
    await backends.close()


async def test_one_that_nobody_waits_for_any_more_is_not_left_open() -> None:
    factory = Factory(gate=asyncio.Event())
    backends = factory.backends()
    call = asyncio.create_task(use(backends, asyncio.Event()))
    await turns()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await backends.keep_only(set())
    await backends.close()
    assert factory.opened == []


async def test_one_that_cannot_be_closed_keeps_no_other_open_and_is_nobodys_error() -> None:
    async def fail() -> None:
        raise RuntimeError("password=hunter2")

    factory, release = Factory(closing=fail), asyncio.Event()
    backends = factory.backends()
    release.set()
    for place in ("x", "y"):
        await use(backends, release, Target(backend="a", config={"place": place}))
    factory.opened[1].closing = None
    await backends.keep_only(set())
    assert [one.is_closed for one in factory.opened] == [False, True]
    await backends.close()


async def test_closing_ends_what_is_being_opened_and_refuses_what_comes_after() -> None:
    factory = Factory(gate=asyncio.Event())
    backends = factory.backends()
    call = asyncio.create_task(use(backends, asyncio.Event()))
    await turns()
    await backends.close()
    with pytest.raises(BackendDown):
        await call
    with pytest.raises(BackendDown, match="closed"):
        await use(backends, asyncio.Event())
    assert factory.opened == []


async def test_the_health_of_what_no_route_leads_to_is_forgotten() -> None:
    backends = Factory().backends()
    await backends.probe(HERE, kind=TABLES, timeout_s=1)
    await backends.keep_only({fingerprint(HERE)})
    assert backends.health(HERE).status == "healthy"
    await backends.keep_only(set())
    assert backends.health(HERE).status == "unknown"
    await backends.close()


SECRETS: Final = (
    "postgres://ann:hunter2@db/x",
    "postgres://ann:hun/ter2@db/x",
    "https://:hunter2@db",
    "AccountEndpoint=https://x;AccountKey=hunter2==;",
    "host=db password=hunter2",
    "host=db PASSWORD = hunter2",
    "aws_secret_access_key=hunter2",
    "api_key=hunter2",
    "api-key: hunter2",
    "https://x.blob/y?sv=1&sig=hunter2",
    '{"private_key": "hunter2"}',
    "-----BEGIN PRIVATE KEY-----hunter2",
    "AKIA" + "HUNTER2HUNTER2AB",
    "SharedAccessSignature=hunter2",
    "password=hunter2\n",
    "postgres://ann:hunter2@db/" + "x" * CONFIG_VALUE_CHARS_MAX,
)


@pytest.mark.parametrize("name", ["place", "key"])
@pytest.mark.parametrize("value", SECRETS)
def test_a_literal_secret_is_refused_and_not_shown(name: str, value: str) -> None:
    backends = Factory().backends()
    with pytest.raises(PerdureError) as caught:
        backends.check(Target(backend="a", config={name: value}), kind=TABLES)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r} {vars(error)}".lower()
        error = error.__cause__


@pytest.mark.parametrize("value", ["hunter2\x00", " hunter2", "hunter2" * 200, ""])
def test_a_text_that_cannot_be_is_refused_and_not_shown(value: str) -> None:
    backends = Factory().backends()
    with pytest.raises((Invalid, LimitExceeded)) as caught:
        backends.check(Target(backend="a", config={"place": value}), kind=TABLES)
    assert "hunter2" not in f"{caught.value} {caught.value.detail}"


@pytest.mark.parametrize(
    "value",
    [
        "https://localhost:8000",
        "http://127.0.0.1:8081/",
        "https://db.example.com:443/a?b=c",
        "/var/lib/perdure/secrets/tokens.db",
        "C:\\data\\token",
        "my-token-table",
        "perdure_passwords",
        "projects/p/databases/(default)",
        "https://db:9000/x@y",
        "x" * CONFIG_VALUE_CHARS_MAX,
    ],
)
def test_what_only_looks_a_little_like_a_secret_is_fine(value: str) -> None:
    Factory().backends().check(Target(backend="a", config={"place": value}), kind=TABLES)


def test_an_integer_has_a_size_that_every_registry_keeps() -> None:
    backends = Factory().backends()
    for size in (INTEGER_MAX, -INTEGER_MAX):
        backends.check(Target(backend="a", config={"size": size}), kind=TABLES)
    for size in (INTEGER_MAX + 1, -INTEGER_MAX - 1, 10**400):
        with pytest.raises(Invalid, match="integer between"):
            backends.check(Target(backend="a", config={"size": size}), kind=TABLES)
