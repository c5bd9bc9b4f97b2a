"""Records to bytes and back: one form for the same values, and nothing lost of what a later release wrote."""

from __future__ import annotations

import subprocess
import sys
from enum import IntEnum, StrEnum

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.domain.turn_records.codec import NestedValues, decode, encode
from perdure.domain.turn_records.fields import INTEGERS, Enumeration, Field, RecordType
from perdure.errors import Corrupt, Invalid, LegacyArtifact, LimitExceeded
from tests.domain.turn_records.record_values import anything, records

COLOURS = Enumeration(enum_id="test.colour", labels={1: "red", 2: "green"})
LEAF = RecordType(
    type_id="test.leaf",
    fields=(Field(tag=2, name="name", type="string"), Field(tag=5, name="size", type="u64", optional=True)),
)
ALL = RecordType(
    type_id="test.all",
    fields=(
        Field(tag=1, name="text", type="string"),
        Field(tag=3, name="count", type="u64", optional=True),
        Field(tag=4, name="colour", type="u8", enum=COLOURS, optional=True),
        Field(tag=10, name="raw", type="bytes", optional=True),
        Field(tag=11, name="flag", type="bool", optional=True),
        Field(tag=12, name="ratio", type="f64", optional=True),
        Field(tag=13, name="exit_code", type="int32", optional=True),
        Field(tag=14, name="at", type="unix_ms", optional=True),
        Field(tag=15, name="data", type="any", optional=True),
        Field(tag=16, name="words", type="array", items="string", optional=True),
        Field(tag=17, name="env", type="map", items="string", optional=True),
        Field(tag=18, name="leaf", type="ref", ref=LEAF, optional=True),
        Field(tag=19, name="leaves", type="array", items=LEAF, optional=True),
        Field(tag=20, name="mixed", type="array", optional=True),
        Field(tag=21, name="open", type="map", optional=True),
        Field(tag=22, name="blob", type="typed_blob", optional=True),
    ),
)
PLAIN = RecordType(type_id="test.plain", fields=(Field(tag=1, name="data", type="any"),))


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def rewritten(record_type: RecordType, payload: bytes) -> bytes:
    found = decode(record_type, payload)
    return encode(record_type, found.values, unknown=found.unknown)


def test_a_record_is_a_compact_map_with_its_tags_in_order():
    values: dict[str, object] = {"leaf": {"name": "x"}, "colour": "green", "exit_code": -1, "text": "hi", "count": 300}

    payload = encode(ALL, values)

    # 5 pairs: 1 "hi", 3 300, 4 2, 13 -1, 18 {2 "x"}
    assert payload.hex(" ") == "85 01 a2 68 69 03 cd 01 2c 04 02 0d ff 12 81 02 a1 78"
    assert decode(ALL, payload).values == values


def test_what_is_absent_is_left_out():
    assert encode(ALL, {"text": "", "count": None, "leaf": None}) == b"\x81\x01\xa0"
    assert decode(ALL, b"\x81\x01\xa0").values == {"text": ""}


def test_a_required_field_of_any_type_may_be_nothing():
    assert encode(PLAIN, {"data": None}) == b"\x81\x01\xc0"
    assert decode(PLAIN, b"\x81\x01\xc0").values == {"data": None}


def test_the_order_in_which_values_are_given_leaves_no_trace():
    one = {"text": "a", "data": {"b": [1, {"y": 1, "x": 2}], "a": 1}, "env": {"K": "1", "B": "2"}}
    other = {"env": {"B": "2", "K": "1"}, "data": {"a": 1, "b": [1, {"x": 2, "y": 1}]}, "text": "a"}

    assert encode(ALL, one) == encode(ALL, other)


def test_every_process_writes_the_same_bytes():
    program = (
        "from perdure.domain.turn_records.codec import encode\n"
        "from perdure.domain.turn_records.fields import Field, RecordType\n"
        "names = {f'k{n}' for n in range(40)}\n"
        "table = RecordType(type_id='t', fields=(Field(tag=1, name='d', type='any'),))\n"
        "print(encode(table, {'d': {name: {other: 1 for other in names} for name in names}}).hex())\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(path for path in sys.path if path)},
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text drawn on a busy machine
@given(records(ALL))
def test_what_is_written_is_read(values: dict[str, object]):
    payload = encode(ALL, values)

    assert decode(ALL, payload).values == values
    assert rewritten(ALL, payload) == payload


def test_members_of_enumerations_become_plain_values():
    class Word(StrEnum):
        HI = "hi"

    class Number(IntEnum):
        ONE = 1

    found = decode(ALL, encode(ALL, {"text": Word.HI, "count": Number.ONE, "data": [Word.HI, Number.ONE]})).values

    assert found == {"text": "hi", "count": 1, "data": ["hi", 1]}


def test_what_the_caller_changes_afterwards_is_not_what_was_read():
    payload = encode(ALL, {"text": "a", "words": ["b"]})
    words = decode(ALL, payload).values["words"]
    assert isinstance(words, list)
    words.append("c")

    assert decode(ALL, payload).values["words"] == ["b"]


@pytest.mark.parametrize(
    ("values", "place", "expected"),
    [
        ({}, "text", "given, and is missing"),
        ({"text": None}, "text", "must be text, and is nothing"),
        ({"text": 1}, "text", "must be text, and is of type int"),
        ({"text": b"a"}, "text", "must be text, and is of type bytes"),
        ({"text": "\ud800"}, "text", "lone surrogate"),
        ({"text": "a", "other": 1}, "other", "must be a field of test.all"),
        ({"text": "a", "count": -1}, "count", "from 0 to 18446744073709551615"),
        ({"text": "a", "count": 2**64}, "count", "from 0 to"),
        ({"text": "a", "count": True}, "count", "an integer"),
        ({"text": "a", "count": 1.0}, "count", "an integer"),
        ({"text": "a", "exit_code": 2**31}, "exit_code", "from -2147483648"),
        ({"text": "a", "at": 253_402_300_800_000}, "at", "unix_ms"),
        ({"text": "a", "colour": "blue"}, "colour", "one of red, green"),
        ({"text": "a", "colour": 256}, "colour", "from 0 to 255"),
        ({"text": "a", "flag": 1}, "flag", "true or false"),
        ({"text": "a", "raw": "text"}, "raw", "must be bytes"),
        ({"text": "a", "blob": bytearray(b"a")}, "blob", "must be bytes"),
        ({"text": "a", "ratio": float("nan")}, "ratio", "a finite number, and is nan"),
        ({"text": "a", "ratio": float("-inf")}, "ratio", "a finite number, and is -inf"),
        ({"text": "a", "ratio": "1"}, "ratio", "must be a number"),
        ({"text": "a", "ratio": 10**400}, "ratio", "64 bits"),
        ({"text": "a", "data": {"x": [1, float("inf")]}}, "data.x[1]", "a finite number"),
        ({"text": "a", "data": [2**64]}, "data[0]", "64 bits"),
        ({"text": "a", "data": [-(2**63) - 1]}, "data[0]", "64 bits"),
        ({"text": "a", "data": {1: 2}}, "data", "text for keys"),
        ({"text": "a", "data": {"\udc00": 2}}, "data", "lone surrogate"),
        ({"text": "a", "data": {1, 2}}, "data", "of type set"),
        ({"text": "a", "words": "abc"}, "words", "must be a list"),
        ({"text": "a", "words": ["a", 1]}, "words[1]", "must be text"),
        ({"text": "a", "env": {"A": 1}}, "env.A", "must be text"),
        ({"text": "a", "env": []}, "env", "must be a map"),
        ({"text": "a", "leaf": "x"}, "leaf", "the fields of test.leaf"),
        ({"text": "a", "leaf": {}}, "leaf.name", "given, and is missing"),
        ({"text": "a", "leaves": [{"name": "a"}, {"name": "b", "size": "c"}]}, "leaves[1].size", "an integer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_field(values: dict[str, object], place: str, expected: str):
    with pytest.raises(Invalid, match="cannot be written") as refused:
        encode(ALL, values)

    assert refused.value.detail == {"record_type": "test.all", "field": place}
    assert f"test.all cannot be written: {place} must be" in refused.value.message
    assert expected in refused.value.message


@pytest.mark.parametrize(("kind", "bounds"), INTEGERS.items())
def test_an_integer_reaches_its_bounds_and_no_further(kind: str, bounds: tuple[int, int]):
    record_type = RecordType(type_id="test.integer", fields=(Field(tag=1, name="n", type=kind),))
    for edge in bounds:
        assert decode(record_type, encode(record_type, {"n": edge})).values == {"n": edge}
    for beyond in (bounds[0] - 1, bounds[1] + 1):
        with pytest.raises(Invalid, match=f"from {bounds[0]} to {bounds[1]}"):
            encode(record_type, {"n": beyond})


def test_a_value_is_never_shown():
    with pytest.raises(Invalid) as refused:
        encode(ALL, {"text": "a", "words": ["fine", {"password": "hunter2"}]})
    payload = packed({1: ["hunter2"]})
    with pytest.raises(LegacyArtifact) as damaged:
        decode(ALL, payload)

    for error in (refused.value, damaged.value):
        assert "hunter2" not in f"{error.message}{error.detail}"
    assert "hunter2" not in repr(decode(PLAIN, payload))


def test_keys_in_digits_are_tags():
    payload = packed({"1": "hi", "3": 7, "18": {"2": "x", "9": True}, "77": 1, "+88": 2, "0099": 3})

    found = decode(ALL, payload)

    assert found.values == {"text": "hi", "count": 7, "leaf": {"name": "x"}}
    assert found.unknown == {77: b"\x01", 88: b"\x02", 99: b"\x03"}
    leaf = found.values["leaf"]
    assert isinstance(leaf, NestedValues)
    assert leaf.unknown == {9: b"\xc3"}


def test_a_tag_has_at_most_40_digits():
    longest = "7".rjust(40, "0")

    assert set(decode(ALL, packed({1: "a", longest: 1})).unknown) == {7}
    assert set(decode(ALL, packed({1: "a", "0" + longest: 1})).unknown) == {"0" + longest}


def test_a_named_key_is_kept_behind_the_tags():
    payload = packed({1: "hi", 200: 1, "also": 2, "text": 3, str(2**64): 4})
    found = decode(ALL, payload)

    assert found.values == {"text": "hi"}
    assert set(found.unknown) == {200, "also", "text", str(2**64)}
    assert list(msgspec.msgpack.decode(rewritten(ALL, payload))) == [1, 200, str(2**64), "also", "text"]


def test_what_a_later_release_wrote_is_written_back_in_its_place():
    later_leaf = RecordType(
        type_id="test.leaf",
        fields=(*LEAF.fields, Field(tag=3, name="colour", type="u8"), Field(tag=9, name="z", type="any")),
    )
    later = RecordType(
        type_id="test.all",
        fields=(
            *(field for field in ALL.fields if field.name not in {"leaf", "leaves"}),
            Field(tag=2, name="new_first", type="any"),
            Field(tag=18, name="leaf", type="ref", ref=later_leaf),
            Field(tag=19, name="leaves", type="array", items=later_leaf),
            Field(tag=99, name="new_last", type="array"),
        ),
    )
    leaf = {"name": "x", "colour": 7, "z": {"deep": [1, 2.5, None]}}
    payload = encode(
        later, {"text": "t", "new_first": {"a": b"\x00"}, "leaf": leaf, "leaves": [leaf, leaf], "new_last": [1, "x"]}
    )

    found = decode(ALL, payload)

    assert found.values == {"text": "t", "leaf": {"name": "x"}, "leaves": [{"name": "x"}, {"name": "x"}]}
    assert set(found.unknown) == {2, 99}
    assert rewritten(ALL, payload) == payload
    changed = encode(ALL, {**found.values, "text": "u"}, unknown=found.unknown)
    assert changed == payload.replace(b"\x01\xa1t", b"\x01\xa1u")


def test_a_number_of_a_later_enumeration_is_written_back():
    payload = packed({1: "a", 4: 9})

    assert decode(ALL, payload).values["colour"] == 9
    assert rewritten(ALL, payload) == payload


@given(st.dictionaries(st.integers(30, 2**64 - 1), anything | st.just(float("nan")), max_size=4))
def test_unknown_fields_survive(fields: dict[int, object]):
    payload = packed({1: "a", **dict(sorted(fields.items()))})

    assert set(decode(ALL, payload).unknown) == set(fields)
    assert rewritten(ALL, payload) == payload


def test_an_extension_is_bytes_in_an_unknown_field_and_refused_in_a_known_one():
    # The timestamp's extension, of a moment that no clock has: whoever interpreted it would fail.
    timestamp = b"\xd7\xff" + b"\xff" * 8
    payload = b"\x82\x01\xa1a\x63\x91" + timestamp

    assert decode(ALL, payload).unknown == {0x63: b"\x91" + timestamp}
    assert rewritten(ALL, payload) == payload
    for known in (b"\x82\x01\xa1a\x0f" + timestamp, b"\x82\x01\xa1a\x0f\x81\xa1x" + timestamp, b"\x81\x01" + timestamp):
        with pytest.raises(LegacyArtifact, match="an extension"):
            decode(ALL, known)


def test_nothing_in_an_optional_field_means_it_is_absent():
    assert decode(ALL, packed({1: "a", 3: None, 15: None, 18: None})).values == {"text": "a"}


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"", "ends before"),
        (b"\xc0", "no MessagePack map"),
        (b'{"schema_version":1}', "no MessagePack map"),
        (packed([1]), "no MessagePack map"),
        (b"\x81", "ends before"),
        (b"\x81\x01\xa5hi", "ends before"),
        (b"\xdf\xff\xff\xff\xff\x01\xa1a", "ends before"),
        (b"\x82\x01\xa1a\x0f\xdd\xff\xff\xff\xff\x01", "ends before"),
        (b"\x82\x01\xa1a\x0f\xc1", "0xc1"),
        (packed({1: "a"}) + b"\x00", "1 bytes follow"),
        (b"\x82\x01\xa1a\x01\xa1b", "1 should be given once"),
        (packed({1: "a", "1": "b"}), "1 should be given once"),
        (b"\x82\x01\xa1a\xc0\x01", "neither a number"),
        (b"\x82\x01\xa1a\xff\x01", "neither a number"),
        (b"\x82\x01\xa1a\xd0\xff\x01", "neither a number"),
        (b"\x82\x01\xa1a\x91\x01\x01", "neither a number"),
        (b"\x81\x01\xa1\xff", "not UTF-8"),
        (b"\x82\x01\xa1a\xa1\xff\x01", "not UTF-8"),
        (packed({1: 5}), "text should be text"),
        (packed({1: None}), "text should be text, and is nothing"),
        (packed({3: 5}), "text should be there, and is missing"),
        (packed({1: "a", 3: -1}), "count should be an integer"),
        (packed({1: "a", 4: "red"}), "colour should be an integer"),
        (packed({1: "a", 4: True}), "colour should be an integer"),
        (packed({1: "a", 12: float("nan")}), "ratio should be a finite number"),
        (packed({1: "a", 15: {2: 3}}), "data should be a map with text for keys"),
        (b"\x82\x01\xa1a\x0f\x81\x81\x01\x02\x03", "a key that is a container"),
        (packed({1: "a", 18: [1]}), "leaf should be a map"),
        (packed({1: "a", 19: {2: "x"}}), "leaves should be a list"),
        (packed({1: "a", 19: [{2: "x"}, {2: 1}]}), r"leaves\[1\].name should be text"),
    ],
)
def test_what_is_no_such_record_is_refused(payload: bytes, complaint: str):
    with pytest.raises(LegacyArtifact, match=complaint):
        decode(ALL, payload)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x83\x01\xa1a\x0f" + tail))
def test_any_bytes_are_read_or_refused(payload: bytes):
    try:
        found = decode(ALL, payload)
    except (Corrupt, LimitExceeded):
        return
    again = decode(ALL, rewritten(ALL, payload))
    assert (again.values, again.unknown) == (found.values, found.unknown)


@pytest.mark.parametrize(
    ("unknown", "complaint"),
    [
        ({1: b"\x01"}, "1 must be a tag that this type does not have"),
        ({-1: b"\x01"}, "-1 must be a tag"),
        ({True: b"\x01"}, "must be a tag"),
        ({2**64: b"\x01"}, "must be a tag"),
        ({"77": b"\x01"}, "77 must be a tag"),
        ({77: b""}, "one MessagePack value, and is damaged"),
        ({77: b"\x01\x01"}, "one MessagePack value, and is more than one"),
        ({77: b"\xa5a"}, "one MessagePack value, and is damaged"),
        ({77: "text"}, "one MessagePack value, and is of type str"),
    ],
)
def test_unknown_fields_are_as_they_were_read(unknown: dict[int | str, bytes], complaint: str):
    with pytest.raises(Invalid, match=complaint):
        encode(ALL, {"text": "a"}, unknown=unknown)
