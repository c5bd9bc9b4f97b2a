"""The facade of objects: in memory, in chunks and from files; pages, limits, routes and audits."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from perdure.adapters.documents.backend import DocumentBackend
from perdure.adapters.memory.driver import MemoryDriver
from perdure.adapters.objectstore import opening
from perdure.core import objects as objects_facade
from perdure.core.objects import Objects
from perdure.domain.kinds import Kind
from perdure.domain.object import MEDIA_TYPE_DEFAULT, OBJECTS_PAGE_MAX, READ_CHUNK_BYTES_MAX, object_digest
from perdure.errors import BackendDown, DigestMismatch, Invalid, LimitExceeded, NoRoute, NotFound, Unsupported
from perdure.ports.backend import LOGS_AND_ROWS, Backend, BackendRequest, BackendSpec
from perdure.testing.environment import fake_environment
from perdure.testing.routed import RoutedPlane, RoutedTenant, given, routed_plane
from perdure.testing.watched import WatchedBackend, failing
from tests.contracts.obstore_stores import flip_a_byte

ABSENT = "0" * 64
UNREADABLE = Path("/proc/self/mem")  # opened by its owner, and no byte can be read at its beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A plane on a watched backend, and what its objects are kept in."""

    plane: RoutedPlane
    watched: WatchedBackend
    client: MemoryStore

    @property
    def acme(self) -> RoutedTenant:
        """A tenant, and who asks for it."""
        return self.plane.tenant("t_acme", actor="user:ann", request_id="r-1")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    environment = fake_environment()
    client = MemoryStore()
    kept = opening.memory(mode="lab", env="dev", environment=environment, shared=client)
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment, objects=kept)
    await backend.open()
    watched = WatchedBackend(backend)
    async with routed_plane([given("main", watched)], backend.routes, environment=environment) as plane:
        world = World(plane=plane, watched=watched, client=client)
        await world.acme.routes.set("objects", "main")
        yield world
    await backend.close()


@pytest.fixture
def objects(world: World) -> Objects:
    return world.acme.objects


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read_into(read: list[bytes], objects: Objects, digest: str) -> None:
    async for chunk in objects.read(digest):
        read.append(chunk)  # noqa: PERF401 - what came before an error is looked at


async def test_bytes_are_kept_under_their_address_once(objects: Objects):
    ref = await objects.put(b"hello", media_type="text/plain")
    assert (ref.digest, ref.size_bytes, ref.media_type) == (object_digest(b"hello"), 5, "text/plain")
    assert await objects.get(ref.digest) == b"hello"
    assert await objects.find(ref.digest) == ref
    again = await objects.put(b"hello", expected_digest=ref.digest)
    assert (again.digest, again.media_type) == (ref.digest, MEDIA_TYPE_DEFAULT)
    assert (await objects.list()).items == (again,)


async def test_chunks_and_files_are_the_same_object_as_their_bytes(objects: Objects, tmp_path: Path):
    content = os.urandom(READ_CHUNK_BYTES_MAX) * 2 + b"tail"
    path = tmp_path / "file"
    path.write_bytes(content)
    refs = [
        await objects.put(content),
        await objects.put_chunks(chunks_of(content[:10], b"", content[10:])),
        await objects.put_file(path),
        await objects.put_file(str(path), expected_digest=object_digest(content)),
    ]
    assert {(ref.digest, ref.size_bytes) for ref in refs} == {(object_digest(content), len(content))}
    assert len((await objects.list()).items) == 1
    read = [chunk async for chunk in objects.read(refs[0].digest)]
    assert b"".join(read) == content
    assert max(map(len, read)) <= READ_CHUNK_BYTES_MAX


async def test_nothing_is_an_object_too(objects: Objects, tmp_path: Path):
    path = tmp_path / "empty"
    path.touch()
    ref = await objects.put_file(path)
    assert (ref.size_bytes, await objects.get(ref.digest)) == (0, b"")
    assert [chunk async for chunk in objects.read(ref.digest)] == []


async def test_other_bytes_than_expected_are_not_kept(objects: Objects, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    for put in (
        objects.put(b"hello", expected_digest=ABSENT),
        objects.put_chunks(chunks_of(b"hel", b"lo"), expected_digest=ABSENT),
        objects.put_file(path, expected_digest=ABSENT),
    ):
        with pytest.raises(DigestMismatch):
            await put
    assert (await objects.list()).items == ()


async def test_chunks_that_end_in_an_error_are_not_kept_and_the_error_is_the_callers(objects: Objects):
    class Own(Exception):
        """Of whoever makes the chunks."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"hel"
        raise Own

    with pytest.raises(Own):
        await objects.put_chunks(broken())
    with pytest.raises(Invalid, match="not str"):
        await objects.put_chunks(chunks_of("text"))  # type: ignore[arg-type]  # wrong on purpose
    assert (await objects.list()).items == ()


async def test_a_file_that_cannot_be_read_is_refused_by_its_name(objects: Objects, tmp_path: Path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(NotFound, match=f"{path} cannot be read: "):
            await objects.put_file(path)
    assert (await objects.list()).items == ()


@pytest.mark.skipif(not UNREADABLE.exists(), reason="there is no file here that fails while it is read")
async def test_a_file_that_fails_while_it_is_read_is_refused_by_its_name(objects: Objects):
    with pytest.raises(NotFound, match=f"{UNREADABLE} cannot be read: "):
        await objects.put_file(UNREADABLE)
    assert (await objects.list()).items == ()


async def test_what_is_not_there_is_not_found_and_what_is_no_address_is_refused(objects: Objects):
    assert await objects.find(ABSENT) is None
    assert not await objects.delete(ABSENT)
    for absent in (objects.get(ABSENT), anext(objects.read(ABSENT))):
        with pytest.raises(NotFound):
            await absent
    for wrong in ("", "x", "A" * 64, "../" * 20):
        for asked in (objects.get(wrong), objects.find(wrong), objects.delete(wrong), objects.list(cursor=wrong)):
            with pytest.raises(Invalid):
                await asked


async def test_a_deleted_object_is_gone_and_can_be_put_again(objects: Objects):
    ref = await objects.put(b"hello")
    assert await objects.delete(ref.digest)
    assert not await objects.delete(ref.digest)
    assert await objects.find(ref.digest) is None
    await objects.put(b"hello")
    assert await objects.get(ref.digest) == b"hello"


async def test_objects_are_listed_page_by_page_in_the_order_of_their_addresses(objects: Objects):
    made = sorted([(await objects.put(bytes([number]))).digest for number in range(5)])
    found: list[str] = []
    cursor = None
    while True:
        page = await objects.list(cursor=cursor, limit=2)
        found += [ref.digest for ref in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == made
    assert (await objects.list(limit=5)).next_cursor is None
    assert [ref.digest for ref in (await objects.list(cursor=made[2])).items] == made[3:]


async def test_a_page_at_the_limit_is_given_and_one_above_it_is_not(objects: Objects):
    assert (await objects.list(limit=OBJECTS_PAGE_MAX)).items == ()
    with pytest.raises(LimitExceeded) as caught:
        await objects.list(limit=OBJECTS_PAGE_MAX + 1)
    assert caught.value.detail["limit"] == "objects_page_max"
    for limit in (0, -1):
        with pytest.raises(Invalid, match="at least 1"):
            await objects.list(limit=limit)


async def test_an_object_at_the_limit_is_read_at_once_and_one_above_it_in_chunks(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(objects_facade, "READ_BYTES_MAX", 5)
    assert await objects.get((await objects.put(b"hello")).digest) == b"hello"
    ref = await objects.put(b"hello!")
    with pytest.raises(LimitExceeded, match="read it in chunks") as caught:
        await objects.get(ref.digest)
    assert caught.value.detail == {"limit": "read_bytes_max", "allowed": 5, "actual": 6}
    assert [chunk async for chunk in objects.read(ref.digest)] == [b"hello!"]


async def test_a_changed_byte_is_never_handed_out_as_the_object(world: World):
    content = b"ab" * READ_CHUNK_BYTES_MAX + b"tail"
    objects = world.acme.objects
    ref = await objects.put(content)
    await flip_a_byte(world.client, world.acme.scope.space, ref.digest)
    with pytest.raises(DigestMismatch):
        await objects.get(ref.digest)
    read: list[bytes] = []
    with pytest.raises(DigestMismatch):
        await read_into(read, objects, ref.digest)
    assert sum(map(len, read)) < len(content)
    await objects.put(content)
    assert await objects.get(ref.digest) == content


async def test_a_reader_that_stops_half_way_keeps_no_backend_open(world: World):
    objects = world.acme.objects
    ref = await objects.put(b"ab" * READ_CHUNK_BYTES_MAX)
    async with aclosing(objects.read(ref.digest)) as chunks:  # type: ignore[type-var]  # a generator
        assert len(await anext(chunks)) == READ_CHUNK_BYTES_MAX
    await world.plane.stores.backends.keep_only(set())
    assert world.plane.stores.backends.in_use() == []


async def test_puts_of_the_same_bytes_at_the_same_time_leave_one_object(objects: Objects):
    await asyncio.gather(*(objects.put(b"hello") for _ in range(8)))
    (only,) = (await objects.list()).items
    assert await objects.get(only.digest) == b"hello"


async def test_each_scope_has_objects_of_its_own(world: World):
    ref = await world.acme.objects.put(b"hello")
    for other in (world.plane.tenant("t_acme", project="p2"), world.plane.tenant("t_acme", surface="s")):
        assert await other.objects.find(ref.digest) is None
        assert (await other.objects.list()).items == ()
        assert not await other.objects.delete(ref.digest)
    assert await world.acme.objects.get(ref.digest) == b"hello"


async def test_without_a_route_nothing_is_put_or_read(world: World, tmp_path: Path):
    objects = world.plane.tenant("t_other").objects
    mark = len(world.watched.calls)
    for asked in (
        objects.put(b""),
        objects.put_chunks(chunks_of(b"")),
        objects.put_file(tmp_path / "missing"),
        objects.get(ABSENT),
        anext(objects.read(ABSENT)),
        objects.find(ABSENT),
        objects.list(),
        objects.delete(ABSENT),
    ):
        with pytest.raises(NoRoute) as caught:
            await asked
        assert caught.value.code == "objects.missing_route"
    assert world.watched.calls[mark:] == []


async def test_a_backend_that_is_away_is_named_with_the_kind(world: World):
    objects = world.acme.objects
    world.watched.before = failing(BackendDown("gone"), among="objects.")
    for asked in (objects.put(b""), objects.get(ABSENT), objects.find(ABSENT), objects.list(), objects.delete(ABSENT)):
        with pytest.raises(BackendDown) as caught:
            await asked
        assert caught.value.code == "objects.backend_unavailable"


async def test_a_backend_whose_objects_are_missing_though_it_promised_them_is_refused():
    environment = fake_environment()
    backend = DocumentBackend(MemoryDriver(), mode="lab", env="dev", environment=environment)
    await backend.open()

    async def start(request: BackendRequest) -> Backend:
        del request
        return backend

    spec = BackendSpec(name="main", lab_only=True, config=(), open=start, kinds=LOGS_AND_ROWS | {Kind.OBJECTS})
    async with routed_plane([spec], backend.routes, environment=environment) as plane:
        acme = plane.tenant("t_acme")
        await acme.routes.set("objects", "main")
        with pytest.raises(Unsupported) as caught:
            await acme.objects.put(b"hello")
        assert caught.value.code == "objects.unsupported_backend"


async def test_puts_and_deletes_are_audited_whatever_becomes_of_them(world: World, caplog: pytest.LogCaptureFixture):
    objects = world.acme.objects
    with caplog.at_level(logging.INFO, logger="perdure.audit"):
        ref = await objects.put(b"secret")
        with pytest.raises(DigestMismatch):
            await objects.put(b"secret", expected_digest=ABSENT)
        await objects.get(ref.digest)
        await objects.delete(ref.digest)
    found = [record.__dict__["audit"] for record in caplog.records if record.name == "perdure.audit"]
    assert [(each["operation"], each["outcome"]) for each in found] == [
        ("put", "ok"),
        ("put", "digest_mismatch"),
        ("delete", "ok"),
    ]
    told = {"kind": "objects", "actor": "user:ann", "request_id": "r-1", "backend": "main", "tenant": "t_acme"}
    assert all(each.items() >= told.items() for each in found)
    assert "secret" not in caplog.text + repr(found)
