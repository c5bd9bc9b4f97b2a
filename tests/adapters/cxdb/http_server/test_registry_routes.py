"""Bundles over HTTP."""

from __future__ import annotations

import msgspec
import pytest

from perdure.adapters.cxdb.http_server import registry_state
from perdure.adapters.cxdb.http_server.limits import BUNDLE_BODY_BYTES_MAX
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.turn import content_hash
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, STRICT, bundle, check_error, talking

FIELDS = {"1": {"name": "text", "type": "string"}}
BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])
PATH = "/v1/registry/bundles/b"


@BOTH
async def test_a_bundle_is_kept_once_and_comes_back_byte_for_byte(profile: Profile) -> None:
    async with talking(profile) as talk:
        raw = bundle(FIELDS) + b"\n "
        first = await talk.http.put(PATH, content=raw)
        assert (first.status_code, first.json()) == (201, {"bundle_id": "b"})
        again = await talk.http.put(PATH, content=raw)
        assert (again.status_code, again.content) == (204, b"")
        answer = await talk.http.get(PATH)
        assert (answer.status_code, answer.content) == (200, raw)
        assert answer.headers["etag"] == f'"{content_hash(raw)}"'
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("profile", "header", "status"),
    [
        (IMPROVED, '"{}"', 304),
        (IMPROVED, 'W/"{}"', 304),
        (IMPROVED, '"x", "{}"', 304),
        (IMPROVED, "*", 304),
        (IMPROVED, '"x"', 200),
        (STRICT, '"{}"', 304),
        (STRICT, 'W/"{}"', 200),
        (STRICT, "*", 200),
    ],
)
async def test_a_bundle_that_is_known_is_not_sent_again(profile: Profile, header: str, status: int) -> None:
    async with talking(profile) as talk:
        raw = bundle(FIELDS)
        await talk.http.put(PATH, content=raw)
        answer = await talk.http.get(PATH, headers={"If-None-Match": header.format(content_hash(raw))})
        assert (answer.status_code, answer.content) == (status, b"" if status == 304 else raw)


@pytest.mark.parametrize(("profile", "status"), [(IMPROVED, 409), (STRICT, 422)])
async def test_a_bundle_that_contradicts_another_is_refused_and_leaves_no_trace(profile: Profile, status: int) -> None:
    async with talking(profile) as talk:
        await talk.publish(FIELDS, enums={"e": {"1": "x"}})
        check_error(await talk.http.put(PATH, content=bundle(FIELDS, enums={"e": {"1": "x"}}) + b" "), status)
        changed = {"1": {"name": "text", "type": "u64"}}
        other = "/v1/registry/bundles/c"
        for contradicting in (
            bundle(changed, "t", "c"),
            bundle(changed, "t", "c", version=2),
            bundle({}, "u", "c", enums={"e": {"1": "y"}}),
        ):
            check_error(await talk.http.put(other, content=contradicting), status)
        assert (await talk.http.get(other)).status_code == 404
        await talk.publish(FIELDS, bundle_id="c", version=2)


@BOTH
async def test_a_bundle_that_names_a_missing_enum_does_not_stop_those_after_it(profile: Profile) -> None:
    async with talking(profile) as talk:
        wrong = bundle({"1": {"name": "state", "type": "u8", "enum": "missing"}})
        check_error(await talk.http.put(PATH, content=wrong), 422, says="missing")
        await talk.publish(FIELDS)
        assert (await talk.get("/v1/registry/types/t/versions/1")) == {"fields": FIELDS}


@BOTH
async def test_what_is_no_bundle_is_refused(profile: Profile) -> None:
    async with talking(profile) as talk:
        for body in (b"", b"{", b"[]", b"\xff", b'{"bundle_id":"b"}', b"[" * 200_000):
            check_error(await talk.http.put(PATH, content=body), 422)
        check_error(await talk.http.get(PATH), 404, says="bundle")


@pytest.mark.parametrize(("profile", "status"), [(IMPROVED, 413), (STRICT, 422)])
async def test_the_largest_bundle_is_kept_and_a_larger_one_refused(profile: Profile, status: int) -> None:
    async with talking(profile) as talk:
        raw = bundle(FIELDS)
        check_error(
            await talk.http.put(PATH, content=raw.ljust(BUNDLE_BODY_BYTES_MAX + 1)),
            status,
            says="bundle_body_bytes_max",
        )
        assert (await talk.http.put(PATH, content=raw.ljust(BUNDLE_BODY_BYTES_MAX))).status_code == 201


async def test_the_address_names_the_bundle_or_is_ignored_in_the_strict_profile() -> None:
    async with talking() as talk, talking(STRICT) as strict:
        check_error(await talk.http.put("/v1/registry/bundles/other", content=bundle(FIELDS)), 422, says="bundle_id")
        answer = await strict.http.put("/v1/registry/bundles/other", content=bundle(FIELDS))
        assert (answer.status_code, answer.json()) == (201, {"bundle_id": "b"})
        assert (await strict.http.get("/v1/registry/bundles/other")).status_code == 404
        assert (await strict.http.get(PATH)).status_code == 200


async def test_an_id_of_any_characters_is_kept() -> None:
    async with talking() as talk:
        raw = bundle(FIELDS, "t", "2026-01-30T00:00:00Z#é/1")
        path = "/v1/registry/bundles/2026-01-30T00:00:00Z%23%C3%A9%2F1"
        assert (await talk.http.put(path, content=raw)).json() == {"bundle_id": "2026-01-30T00:00:00Z#é/1"}
        assert (await talk.http.get(path)).content == raw
        page = await talk.page(await talk.begin())
        assert page["meta"]["registry_bundle_id"] == "2026-01-30T00:00:00Z#é/1"


@BOTH
async def test_a_type_is_described_by_its_version(profile: Profile) -> None:
    async with talking(profile) as talk:
        renderer = {"esm_url": "https://example.org/t.js"}
        await talk.publish(FIELDS)
        await talk.publish(FIELDS, bundle_id="c", renderer=renderer)
        assert await talk.get("/v1/registry/types/t/versions/1") == {"fields": FIELDS, "renderer": renderer}
        for path in ("t/versions/2", "u/versions/1"):
            check_error(await talk.http.get(f"/v1/registry/types/{path}"), 404, says="type version")
        for version in ("x", "-1", "4294967296"):
            check_error(await talk.http.get(f"/v1/registry/types/t/versions/{version}"), 422)


@BOTH
async def test_renderers_are_those_of_the_highest_versions(profile: Profile) -> None:
    async with talking(profile) as talk:
        assert await talk.get("/v1/registry/renderers") == {"renderers": {}}
        first, second = {"esm_url": "a"}, {"component": "X", "esm_url": "b", "integrity": "c"}
        await talk.publish(FIELDS, renderer=first)
        await talk.publish(FIELDS, bundle_id="c", version=2, renderer=second)
        await talk.publish(FIELDS, bundle_id="d", type_id="u")
        assert await talk.get("/v1/registry/renderers") == {"renderers": {"t": second}}


async def test_what_was_published_is_there_after_a_restart() -> None:
    async with talking() as talk:
        await talk.publish(FIELDS)
        await talk.publish(FIELDS, bundle_id="c", type_id="u")
    async with talking(world=talk.world) as later:
        assert (await later.get("/v1/registry/types/u/versions/1")) == {"fields": FIELDS}
        assert (await later.page(await later.begin()))["meta"]["registry_bundle_id"] == "c"
        again = await later.http.put(PATH, content=bundle(FIELDS))
        assert again.status_code == 204


async def test_what_others_keep_in_the_store_is_used_if_it_fits() -> None:
    async with talking() as talk:
        kept = {"a": bundle(FIELDS, "t", "a"), "b": b"{}", "c": bundle({"1": {"name": "n", "type": "u8"}}, "t", "c")}
        for bundle_id, raw in kept.items():
            await talk.store.publish_bundle(talk.world.space, bundle_id, raw, timeout_s=TIMEOUT_S)
        assert await talk.get("/v1/registry/types/t/versions/1") == {"fields": FIELDS}
        objects = (await talk.get("/v1/metrics"))["objects"]
        assert (objects["registry_bundles_total"], objects["registry_bundles_refused_total"]) == (3, 2)


async def test_a_registry_holds_so_many_bundles_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_state, "REGISTRY_BUNDLES_MAX", 2)
    async with talking() as talk:
        for bundle_id in ("b", "c"):
            await talk.publish(FIELDS, bundle_id=bundle_id)
        further = bundle(FIELDS, "t", "d")
        check_error(await talk.http.put("/v1/registry/bundles/d", content=further), 422, says="registry_bundles_max")
        assert (await talk.http.put(PATH, content=bundle(FIELDS))).status_code == 204


async def test_all_bundles_are_read_however_many_pages_they_fill() -> None:
    async with talking() as talk:
        for number in range(150):
            raw = msgspec.json.encode(
                {"registry_version": 1, "bundle_id": f"b{number}", "types": {f"t{number}": {"versions": {"1": {}}}}}
            )
            await talk.store.publish_bundle(talk.world.space, f"b{number}", raw, timeout_s=TIMEOUT_S)
        assert await talk.get("/v1/registry/types/t149/versions/1") == {"fields": {}}
        assert (await talk.get("/v1/metrics"))["objects"]["registry_types_total"] == 150
