"""Payloads as their types describe them, case by case."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.http_server.descriptors import FieldDescriptor, Items, TypeVersion, parse_bundle
from perdure.adapters.cxdb.http_server.limits import PAYLOAD_DEPTH_MAX
from perdure.adapters.cxdb.http_server.projection import Rendering, iso_time, project
from perdure.adapters.cxdb.http_server.registry import EMPTY
from perdure.errors import Invalid, LimitExceeded
from tests.adapters.cxdb.http_server.test_values import documents

pytestmark = pytest.mark.fast

REGISTRY = EMPTY.plus(
    parse_bundle(
        msgspec.json.encode(
            {
                "registry_version": 1,
                "bundle_id": "b",
                "types": {
                    "t.inner": {
                        "versions": {
                            "1": {"fields": {"1": {"name": "old", "type": "string"}}},
                            "2": {
                                "fields": {
                                    "1": {"name": "new", "type": "string"},
                                    "2": {"name": "self", "type": "ref", "ref": "t.inner", "optional": True},
                                }
                            },
                        }
                    }
                },
                "enums": {"t.color": {"0": "red", "1": "green"}},
            }
        )
    )
)
TEXT = Rendering()
NUMBER = Rendering(u64_format="number")
NUMBERS = {0: ("0", 0), 5: ("5", 5), 2**64 - 1: (str(2**64 - 1), 2**64 - 1)}


def shown(field: FieldDescriptor, value: object, rendering: Rendering = TEXT) -> object:
    """The value of one field, projected."""
    version = TypeVersion(fields={1: field})
    payload = value if isinstance(value, bytes) else msgspec.msgpack.encode({1: value})
    return dict(project(payload, version, registry=REGISTRY, rendering=rendering).data)["f"]


def a(kind: str, **more: object) -> FieldDescriptor:
    """A field of a type."""
    return replace(FieldDescriptor(name="f", type=kind), **more)  # type: ignore[arg-type]  # of a test's table


def binary(value: bytes) -> bytes:
    """A payload whose field 1 holds bytes."""
    return msgspec.msgpack.encode({1: value})


@pytest.mark.parametrize("kind", ["u64", "uint64", "int64", "i64"])
def test_a_wide_integer_is_formatted_and_a_negative_one_is_null(kind: str) -> None:
    for number, (as_text, as_number) in NUMBERS.items():
        assert shown(a(kind), number) == as_text
        assert shown(a(kind), number, NUMBER) == as_number
    for other in (-1, "5", 1.0, True, None, [1]):
        assert shown(a(kind), other) is None


@pytest.mark.parametrize("kind", ["u32", "uint32", "u8", "uint8", "int32"])
def test_a_narrow_integer_is_a_number_if_it_has_63_bits(kind: str) -> None:
    for number in (0, 7, -9, 2**63 - 1, -(2**63)):
        assert shown(a(kind), number) == number
    for other in (2**63, "5", 1.0, False, None):
        assert shown(a(kind), other) is None


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "é", "é"),
        ("string", b"\x81\x01\xa1\xff", ""),
        ("string", 5, None),
        ("bool", True, True),
        ("bool", 1, None),
        ("array", 5, None),
        ("array", {}, None),
        ("bytes", "text", None),
        ("typed_blob", 5, None),
    ],
)
def test_a_value_of_another_type_is_null(kind: str, value: object, expected: object) -> None:
    assert shown(a(kind), value) == expected


@pytest.mark.parametrize("kind", ["bytes", "typed_blob", "any"])
def test_bytes_are_shown_in_three_ways(kind: str) -> None:
    assert shown(a(kind), binary(b"\x00\xff")) == "AP8="
    assert shown(a(kind), binary(b"\x00\xff"), Rendering(bytes_render="hex")) == "00ff"
    assert shown(a(kind), binary(b"\x00\xff"), Rendering(bytes_render="len_only")) == 2


@pytest.mark.parametrize("kind", ["unix_ms", "time_ms", "timestamp_ms"])
def test_a_time_is_shown_in_two_ways(kind: str) -> None:
    assert shown(a(kind), 1_706_615_000_123) == "2024-01-30T11:43:20.123+00:00"
    assert shown(a(kind), 1_706_615_000_000) == "2024-01-30T11:43:20+00:00"
    assert shown(a(kind), -1) == "1969-12-31T23:59:59.999+00:00"
    assert shown(a(kind), 1_706_615_000_123, Rendering(time_render="unix_ms")) == 1_706_615_000_123
    assert shown(a(kind), "2024") is None


def test_a_time_beyond_the_years_is_null() -> None:
    assert iso_time(253_402_300_799_999) == "9999-12-31T23:59:59.999+00:00"
    assert iso_time(253_402_300_800_000) is None
    assert iso_time(-62_135_596_800_000) == "0001-01-01T00:00:00+00:00"
    assert iso_time(-62_135_596_800_001) is None
    assert iso_time(2**64 - 1) is None


def test_an_enum_is_shown_in_three_ways() -> None:
    field = a("u8", enum="t.color")
    assert shown(field, 0) == "red"
    assert shown(field, 1, Rendering(enum_render="number")) == 1
    assert shown(field, 1, Rendering(enum_render="both")) == {"label": "green", "value": 1}


def test_an_unknown_number_of_an_enum_is_what_its_type_says() -> None:
    assert shown(a("u8", enum="t.color"), 9) == 9
    assert shown(a("u64", enum="t.color"), 9) == "9"
    assert shown(a("string", enum="t.color"), "red") == "red"
    assert shown(a("u8", enum="t.missing"), 1) == 1
    assert shown(a("u8", enum="t.color"), value=True) is None


@pytest.mark.parametrize("kind", ["ref", "map"])
def test_a_reference_is_shown_as_the_latest_version_says(kind: str) -> None:
    field = a(kind, ref="t.inner")
    assert shown(field, {1: "x", 9: "y"}) == {"new": "x"}
    assert shown(field, {1: "x", 2: {"1": "y"}}) == {"new": "x", "self": {"new": "y"}}
    everything = Rendering(include_unknown=True)
    assert shown(field, {1: "x", 9: 5}, everything) == {"new": "x", "_unknown": {"9": "5"}}
    assert shown(field, {1: "x"}, everything) == {"new": "x"}


def test_a_reference_that_leads_nowhere_or_holds_no_map_is_shown_as_it_is() -> None:
    assert shown(a("ref", ref="t.missing"), {1: "x", "a": -1}) == {"1": "x", "a": -1}
    assert shown(a("ref", ref="t.inner"), [5]) == ["5"]
    assert shown(a("ref"), {1: "x"}) == {"1": "x"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (None, ["5", -1, "a", {"1": "x"}]),
        (Items(type="u32"), [5, -1, None, None]),
        (Items(type="string"), [None, None, "a", None]),
        (Items(type="ref", ref="t.inner"), ["5", -1, "a", {"new": "x"}]),
        (Items(type="ref", ref="t.missing"), ["5", -1, "a", {"1": "x"}]),
        (Items(type="array"), [None, None, None, None]),
    ],
)
def test_items_of_an_array_are_shown_by_their_type(items: Items | None, expected: object) -> None:
    assert shown(a("array", items=items), [5, -1, "a", {1: "x"}]) == expected


def test_an_array_of_arrays_is_shown() -> None:
    assert shown(a("array", items=Items(type="array")), [[1], 2]) == [["1"], None]


@pytest.mark.parametrize("kind", ["i8", "i16", "i32", "f32", "f64", "map", "any", "semantic", "nested", ""])
def test_any_other_type_is_shown_as_it_is(kind: str) -> None:
    assert shown(a(kind), 0) == "0"
    assert shown(a(kind), 0, NUMBER) == 0
    assert shown(a(kind), -1) == -1
    assert shown(a(kind), 1.5) == 1.5
    assert shown(a(kind), None) is None
    assert shown(a(kind), value=True) is True
    assert shown(a(kind), {1: 2, "a": [b"\x01"], -1: None}) == {"1": "2", "a": ["AQ=="], "-1": None}


def test_what_json_has_no_form_for_is_shown_as_nothing() -> None:
    assert shown(a("any"), b"\x81\x01\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00") == 0
    assert shown(a("any"), b"\x81\x01\xcb\xff\xf0\x00\x00\x00\x00\x00\x00") == 0
    assert shown(a("any"), b"\x81\x01\xd4\x05\x00") is None
    assert shown(a("any"), b"\x81\x01\x82\x90\x01\xc2\x02") == {"": "2"}


def test_fields_that_are_absent_are_left_out_and_others_are_unknown() -> None:
    version = TypeVersion(fields={1: a("string"), 2: FieldDescriptor(name="g", type="u64")})
    payload = msgspec.msgpack.encode({"2": 7, 9: 8, "name": "x", -1: "y"})
    projected = project(payload, version, registry=EMPTY, rendering=TEXT)
    assert (projected.data, projected.unknown) == ({"g": "7"}, {})
    projected = project(payload, version, registry=EMPTY, rendering=Rendering(include_unknown=True))
    assert (projected.data, projected.unknown) == ({"g": "7"}, {"9": "8"})


@pytest.mark.parametrize("payload", [b"\x90", b"", b"\xa1a", b"\xc1"])
def test_a_payload_that_is_no_map_is_refused(payload: bytes) -> None:
    with pytest.raises(Invalid):
        project(payload, TypeVersion(fields={}), registry=EMPTY, rendering=TEXT)


def test_a_reference_to_itself_goes_as_deep_as_a_payload_may() -> None:
    field = a("ref", ref="t.inner")
    deep = b"\x81\x01" + b"\x81\x02" * (PAYLOAD_DEPTH_MAX - 1) + b"\xc0"
    assert isinstance(shown(field, deep), dict)
    with pytest.raises(LimitExceeded):
        shown(field, b"\x81\x01" + b"\x81\x02" * 100_000 + b"\xc0")


KINDS = st.sampled_from(
    ["u64", "u32", "i8", "f64", "string", "bool", "bytes", "array", "map", "ref", "unix_ms", "any", "weird"]
)
FIELDS = st.builds(
    FieldDescriptor,
    name=st.text("abc", max_size=2),
    type=KINDS,
    enum=st.sampled_from([None, "t.color", "t.missing"]),
    ref=st.sampled_from([None, "t.inner", "t.missing"]),
    items=st.one_of(st.none(), st.builds(Items, type=KINDS, ref=st.sampled_from([None, "t.inner"]))),
)
RENDERINGS = st.builds(
    Rendering,
    u64_format=st.sampled_from(["string", "number"]),
    bytes_render=st.sampled_from(["base64", "hex", "len_only"]),
    enum_render=st.sampled_from(["label", "number", "both"]),
    time_render=st.sampled_from(["iso", "unix_ms"]),
    include_unknown=st.booleans(),
)


@given(
    st.dictionaries(st.integers(0, 4), FIELDS, max_size=5),
    st.one_of(
        st.dictionaries(st.integers(0, 5), documents, max_size=6).map(msgspec.msgpack.encode),
        st.binary(max_size=100).map(lambda raw: b"\x81\x01" + raw),
    ),
    RENDERINGS,
)
def test_anything_becomes_json_or_a_documented_error(
    fields: dict[int, FieldDescriptor], payload: bytes, rendering: Rendering
) -> None:
    try:
        projected = project(payload, TypeVersion(fields=fields), registry=REGISTRY, rendering=rendering)
    except (Invalid, LimitExceeded):
        return
    encoded = msgspec.json.encode([projected.data, projected.unknown], order="sorted")
    data, unknown = msgspec.json.decode(encoded)
    assert set(data) <= {field.name for field in fields.values()}
    assert rendering.include_unknown or not unknown
