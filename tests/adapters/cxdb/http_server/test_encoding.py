"""JSON that is appended, as the payload that it becomes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.http_server.descriptors import FieldDescriptor, Items, TypeVersion, parse_bundle
from perdure.adapters.cxdb.http_server.encoding import encode_payload
from perdure.adapters.cxdb.http_server.limits import PAYLOAD_DEPTH_MAX, PAYLOAD_VALUES_MAX
from perdure.adapters.cxdb.http_server.projection import Rendering, project
from perdure.adapters.cxdb.http_server.registry import EMPTY
from perdure.adapters.cxdb.http_server.values import read_map
from perdure.errors import Invalid, LimitExceeded

pytestmark = pytest.mark.fast

INNER = {"versions": {"1": {"fields": {"2": {"name": "b", "type": "u8"}, "1": {"name": "a", "type": "string"}}}}}
REGISTRY = EMPTY.plus(
    parse_bundle(
        msgspec.json.encode(
            {"registry_version": 1, "bundle_id": "b", "types": {"t": INNER}, "enums": {"e": {"0": "no", "3": "yes"}}}
        )
    )
)
VERSION = REGISTRY.find("t", 1)


def written(data: object, version: TypeVersion | None = None) -> object:
    """The payload of data, read by another decoder."""
    return msgspec.msgpack.decode(encode_payload(data, version, registry=REGISTRY), strict=False)


def field(kind: str, value: object, **more: Any) -> object:
    """The value that a field of a type becomes."""
    version = TypeVersion(fields={1: FieldDescriptor(name="f", type=kind, **more)})
    decoded = written({"f": value}, version)
    assert isinstance(decoded, dict)
    return decoded[1]


def test_fields_come_by_tag_and_the_rest_after_them() -> None:
    payload = encode_payload({"z": 1, "12": 2, "b": 3, "a": "x", "007": 4}, VERSION, registry=REGISTRY)
    assert payload == b"\x85" + b"\x01\xa1x" + b"\x02\x03" + b"\x07\x04" + b"\x0c\x02" + b"\xa1z\x01"


def test_a_field_is_named_or_given_by_its_tag() -> None:
    assert written({"1": "x", "b": 3}, VERSION) == {1: "x", 2: 3}
    assert written({"a": "y", "1": "x", "b": 3}, VERSION) == {1: "y", 2: 3}


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(Invalid, match=r"data\.b is missing"):
        written({"a": "x"}, VERSION)
    optional = TypeVersion(fields={1: FieldDescriptor(name="f", type="string", optional=True)})
    assert written({}, optional) == {}
    assert written({"f": None}, optional) == {1: None}


def test_without_a_descriptor_keys_are_sorted_and_those_in_digits_are_numbers() -> None:
    assert encode_payload({"b": 1, "a": 1.0, "10": None}, None, registry=EMPTY) == (
        b"\x83\x0a\xc0\xa1a\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa1b\x01"
    )
    assert encode_payload([1, "x"], VERSION, registry=EMPTY) == b"\x92\x01\xa1x"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("u8", 255, 255),
        ("u64", "18446744073709551615", 2**64 - 1),
        ("u32", "7", 7),
        ("i8", -128, -128),
        ("int64", "-5", -5),
        ("f64", 1, 1.0),
        ("f32", 0.5, 0.5),
        ("string", "é", "é"),
        ("bool", False, False),
        ("bytes", "AP8=", b"\x00\xff"),
        ("bytes", "00f", b"00f"),
        ("bytes", "0f-", b"0f-"),
        ("bytes", "00 ff", b"\x00\xff"),
        ("bytes", [0, 255], b"\x00\xff"),
        ("bytes", {"base64": "AP8="}, b"\x00\xff"),
        ("bytes", {"hex": "00ff"}, b"\x00\xff"),
        ("typed_blob", "", b""),
        ("unix_ms", 5, 5),
        ("unix_ms", "5", 5),
        ("unix_ms", "2024-01-30T11:43:20.123+00:00", 1_706_615_000_123),
        ("any", {"a": [None, True]}, {"a": [None, True]}),
        ("semantic", "x", "x"),
        ("map", {"1": "x"}, {1: "x"}),
    ],
)
def test_a_value_becomes_what_its_type_says(kind: str, value: object, expected: object) -> None:
    assert field(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u8", 256),
        ("u8", -1),
        ("u8", True),
        ("u8", 1.0),
        ("u64", "x"),
        ("u64", 2**64),
        ("i64", 2**63),
        ("f64", "1"),
        ("f64", 10**400),
        ("string", 5),
        ("string", None),
        ("bool", 1),
        ("bytes", 5),
        ("bytes", [256]),
        ("bytes", [True]),
        ("bytes", {"hex": "xyz"}),
        ("bytes", {}),
        ("array", {}),
        ("unix_ms", "yesterday"),
        ("unix_ms", "2024-01-30T11:43:20"),
        ("unix_ms", None),
        ("any", 2**64),
        ("any", -(2**63) - 1),
    ],
)
def test_a_value_of_another_type_is_invalid(kind: str, value: object) -> None:
    with pytest.raises(Invalid, match=r"data\.f"):
        field(kind, value)


def test_an_enum_takes_a_number_or_a_label() -> None:
    assert field("u8", "yes", enum="e") == 3
    assert field("u8", 0, enum="e") == 0
    assert field("u8", 9, enum="e") == 9
    with pytest.raises(Invalid):
        field("u8", "perhaps", enum="e")


def test_records_within_records_have_tags_too() -> None:
    inner = {"b": 1, "a": "x"}
    assert field("ref", inner, ref="t") == {1: "x", 2: 1}
    assert field("map", inner, ref="t") == {1: "x", 2: 1}
    assert field("ref", inner, ref="missing") == inner
    assert field("ref", "text", ref="t") == "text"
    assert field("array", [inner, 5], items=Items(type="ref", ref="t")) == [{1: "x", 2: 1}, 5]
    assert field("array", ["5"], items=Items(type="u64")) == [5]
    assert field("array", [["5"]], items=Items(type="array")) == [["5"]]
    assert field("array", ["5"]) == ["5"]
    with pytest.raises(Invalid, match=r"data\.f\[0\]\.b"):
        field("array", [{"a": "x"}], items=Items(type="ref", ref="t"))


def deep(levels: int) -> object:
    """Lists in each other, the outermost of which is a level."""
    data: object = []
    for _ in range(levels - 1):
        data = [data]
    return data


def test_the_deepest_data_is_written_and_deeper_ones_refused() -> None:
    payload = encode_payload({"a": deep(PAYLOAD_DEPTH_MAX - 1)}, None, registry=EMPTY)
    read_map(payload)
    with pytest.raises(LimitExceeded, match="payload_depth_max"):
        encode_payload({"a": deep(PAYLOAD_DEPTH_MAX)}, None, registry=EMPTY)


def test_the_most_values_are_written_and_more_refused() -> None:
    allowed = PAYLOAD_VALUES_MAX - 2  # the map and the list
    encode_payload({"a": [0] * allowed}, None, registry=EMPTY)
    with pytest.raises(LimitExceeded, match="payload_values_max"):
        encode_payload({"a": [0] * (allowed + 1)}, None, registry=EMPTY)


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["a", "b", "f", "1", "02"]), inner, max_size=4)
    ),
    max_leaves=12,
)
VERSIONS = st.sampled_from([None, VERSION]) | st.builds(
    lambda kind, ref, items: TypeVersion(
        fields={1: FieldDescriptor(name="f", type=kind, ref=ref, items=items, enum="e", optional=True)}
    ),
    st.sampled_from(["u8", "i64", "f64", "string", "bool", "bytes", "array", "map", "ref", "unix_ms", "any"]),
    st.sampled_from([None, "t", "missing"]),
    st.sampled_from([None, Items(type="u8"), Items(type="ref", ref="t"), Items(type="bytes")]),
)


@given(json_values, VERSIONS)
def test_any_json_becomes_a_payload_or_a_documented_error(data: object, version: TypeVersion | None) -> None:
    try:
        payload = encode_payload(data, version, registry=REGISTRY)
    except (Invalid, LimitExceeded):
        return
    assert payload == encode_payload(data, version, registry=REGISTRY)
    if isinstance(data, dict):
        read_map(payload)
        if version is not None:
            project(payload, version, registry=REGISTRY, rendering=Rendering())


@given(st.binary(max_size=50), st.integers(0, 2**64 - 1), st.integers(0, 253_402_300_799_999))
def test_what_readers_are_shown_can_be_appended_again(blob: bytes, number: int, moment: int) -> None:
    version = TypeVersion(
        fields={
            1: FieldDescriptor(name="blob", type="bytes"),
            2: FieldDescriptor(name="number", type="u64"),
            3: FieldDescriptor(name="moment", type="unix_ms"),
            4: FieldDescriptor(name="state", type="u8", enum="e"),
        }
    )
    payload = msgspec.msgpack.encode({1: blob, 2: number, 3: moment, 4: 3})
    shown = project(payload, version, registry=REGISTRY, rendering=Rendering())
    assert encode_payload(dict(shown.data), version, registry=REGISTRY) == payload
