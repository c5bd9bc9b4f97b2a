"""Bundles: what is one, and what a further one may not change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.http_server.descriptors import Items, describe, parse_bundle
from perdure.adapters.cxdb.http_server.limits import BUNDLE_BODY_BYTES_MAX, BUNDLE_NAME_CHARS_MAX
from perdure.adapters.cxdb.http_server.registry import EMPTY, Registry
from perdure.adapters.cxdb.http_server.registry_state import kept_bundle_id
from perdure.domain.turn import check_bundle_id
from perdure.domain.turn_records.bundle import bundle
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES
from perdure.errors import Conflict, Invalid, LimitExceeded

pytestmark = pytest.mark.fast


def raw(types: object = None, enums: object = None, *, bundle_id: object = "b", version: object = 1) -> bytes:
    """A bundle as it is sent."""
    sent = {"registry_version": version, "bundle_id": bundle_id, "types": types or {}, "enums": enums or {}}
    return msgspec.json.encode(sent)


def one(version: int, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The types of a bundle with one version of one type."""
    return {"t": {"versions": {str(version): {"fields": fields, **more}}}}


def plus(registry: Registry, types: object = None, enums: object = None) -> Registry:
    """The registry with a bundle."""
    return registry.plus(parse_bundle(raw(types, enums)))


NAME = {"1": {"name": "name", "type": "string"}}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"registry_version":1}',
        raw(version=0),
        raw(version=-1),
        raw(version=2**32),
        raw(version="1"),
        raw(bundle_id=""),
        raw(bundle_id=5),
        raw(bundle_id="x" * (BUNDLE_NAME_CHARS_MAX + 1)),
        raw(["t"]),
        raw({"t": {"versions": {"x": {}}}}),
        raw({"t": {"versions": {"4294967296": {}}}}),
        raw({"t": {"versions": {"1": {}, "01": {}}}}),
        raw(one(1, {"a": {"name": "n", "type": "t"}})),
        raw(one(1, {"18446744073709551616": {"name": "n", "type": "t"}})),
        raw(one(1, {"1": {"name": "n"}})),
        raw(one(1, NAME, renderer={})),
        raw(None, {"e": {"x": "label"}}),
    ],
)
def test_what_is_no_bundle_is_invalid(sent: bytes) -> None:
    with pytest.raises(Invalid):
        parse_bundle(sent)


def test_the_largest_bundle_is_read_and_a_larger_one_refused() -> None:
    assert parse_bundle(raw().ljust(BUNDLE_BODY_BYTES_MAX)).bundle_id == "b"
    with pytest.raises(LimitExceeded, match="bundle_body_bytes_max"):
        parse_bundle(raw().ljust(BUNDLE_BODY_BYTES_MAX + 1))
    assert parse_bundle(raw(bundle_id="x" * BUNDLE_NAME_CHARS_MAX)).bundle_id == "x" * BUNDLE_NAME_CHARS_MAX


@pytest.mark.parametrize(
    ("items", "read"),
    [
        ("string", Items(type="string")),
        ({"type": "u64"}, Items(type="u64")),
        ({"type": "ref", "ref": "t"}, Items(type="ref", ref="t")),
        ({"ref": "t"}, Items(type="ref", ref="t")),
        ({"type": "ref"}, None),
        ({"type": 5}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_items_have_three_forms(items: object, read: Items | None) -> None:
    sent = raw(one(1, {"1": {"name": "n", "type": "array", "items": items}}))
    assert parse_bundle(sent).types["t"][1].fields[1].items == read


def test_a_version_is_described_as_it_was_sent() -> None:
    fields = {
        "1": {"name": "a", "type": "u8", "enum": "e", "optional": True},
        "2": {"name": "b", "type": "ref", "ref": "t", "optional": False},
        "3": {"name": "c", "type": "array", "items": "string", "semantic": "ignored"},
        "4": {"name": "d", "type": "array", "items": {"ref": "t"}},
    }
    renderer = {"esm_url": "https://example.org/x.js", "component": "X", "integrity": "sha"}
    registry = plus(EMPTY, one(1, fields, renderer=renderer), {"e": {"1": "x"}})
    version = registry.find("t", 1)
    assert version is not None
    assert describe(version) == {
        "fields": {
            "1": {"name": "a", "type": "u8", "enum": "e", "optional": True},
            "2": {"name": "b", "type": "ref", "ref": "t"},
            "3": {"name": "c", "type": "array", "items": "string"},
            "4": {"name": "d", "type": "array", "items": {"type": "ref", "ref": "t"}},
        },
        "renderer": renderer,
    }


def test_versions_are_found_by_their_number_and_the_highest_is_the_latest() -> None:
    registry = plus(plus(EMPTY, one(2, NAME)), one(0, NAME))
    assert registry.latest("t") == 2
    assert registry.latest("u") is None
    assert registry.find_latest("t") == registry.find("t", 2)
    assert registry.find("t", 1) is None
    assert registry.last_bundle_id == "b"


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"type": "u64"}, {"ref": "x"}, {"optional": True}, {"items": "u8"}]
)
def test_an_existing_version_keeps_its_fields(change: dict[str, Any]) -> None:
    registry = plus(EMPTY, one(1, NAME))
    assert plus(registry, one(1, NAME)) == registry
    with pytest.raises(Conflict):
        plus(registry, one(1, {"1": NAME["1"] | change}))
    with pytest.raises(Conflict):
        plus(registry, one(1, NAME | {"2": {"name": "more", "type": "u64"}}))
    with pytest.raises(Conflict):
        plus(registry, one(1, {}))


def test_a_tag_keeps_its_type_and_enum_through_all_versions() -> None:
    registry = plus(EMPTY, one(1, NAME), {"e": {"1": "x"}})
    later = plus(registry, one(2, {"2": {"name": "more", "type": "u8"}}))
    for field in ({"name": "name", "type": "u64"}, {"name": "name", "type": "string", "enum": "e"}):
        with pytest.raises(Conflict):
            plus(later, one(3, {"1": field}))
    renamed = plus(later, one(3, {"1": {"name": "other", "type": "string", "ref": "x", "items": "u8"}}))
    assert renamed.latest("t") == 3


def test_versions_of_one_bundle_may_not_contradict_each_other() -> None:
    types = {"t": {"versions": {"1": {"fields": NAME}, "2": {"fields": {"1": {"name": "n", "type": "u8"}}}}}}
    with pytest.raises(Conflict):
        plus(EMPTY, types)


def test_an_enum_keeps_its_labels() -> None:
    registry = plus(EMPTY, None, {"e": {"1": "x"}})
    assert plus(registry, None, {"e": {"1": "x"}}) == registry
    for labels in ({"1": "y"}, {"1": "x", "2": "y"}, {}):
        with pytest.raises(Conflict):
            plus(registry, None, {"e": labels})


def test_a_field_names_an_enum_of_this_bundle_or_of_one_before() -> None:
    types = one(1, {"1": {"name": "n", "type": "u8", "enum": "e"}})
    with pytest.raises(Invalid):
        plus(EMPTY, types)
    assert plus(EMPTY, types, {"e": {"1": "x"}}).label("e", 1) == "x"
    assert plus(plus(EMPTY, None, {"e": {"1": "x"}}), types).number("e", "x") == 1


def test_a_renderer_is_added_once() -> None:
    registry = plus(EMPTY, one(1, NAME))
    first, second = {"esm_url": "a"}, {"esm_url": "b"}
    shown = plus(registry, one(1, NAME, renderer=first))
    assert plus(shown, one(1, NAME, renderer=first)) == shown
    assert plus(shown, one(1, NAME)) == shown
    with pytest.raises(Conflict):
        plus(shown, one(1, NAME, renderer=second))


def test_the_bundle_of_our_own_records_is_taken() -> None:
    sent = bundle(RECORD_TYPES, bundle_id=BUNDLE_ID, version=BUNDLE_VERSION)
    registry = EMPTY.plus(parse_bundle(sent))
    assert registry.plus(parse_bundle(sent)) == registry
    assert all(registry.find(one.type_id, one.version) is not None for one in RECORD_TYPES)


@given(st.text(min_size=1, max_size=BUNDLE_NAME_CHARS_MAX))
def test_any_id_has_one_that_a_store_keeps(bundle_id: str) -> None:
    assert check_bundle_id(kept_bundle_id(bundle_id))


def test_ids_that_a_store_keeps_stay_as_they_are_and_no_two_become_one() -> None:
    assert kept_bundle_id("a.b-c_1") == "a.b-c_1"
    others = ["2026-01-30T00:00:00Z#ab", "2026-01-30T00_00_00Z_ab", "a/b", "a:b", "a_b", "x" * 129]
    others.append(kept_bundle_id("a/b"))
    assert len({kept_bundle_id(each) for each in others}) == len(others)
