"""What a table of a record may say, checked when it is made."""

from __future__ import annotations

import pytest

from perdure.domain.turn import TYPE_ID_CHARS_MAX, TYPE_VERSION_MAX
from perdure.domain.turn_records.fields import (
    ENUM_LABELS_MAX,
    FIELD_NAME_CHARS_MAX,
    INTEGERS,
    TAG_MAX,
    TYPES,
    Enumeration,
    Field,
    RecordType,
    Requirement,
)
from perdure.errors import Invalid

COLOURS = Enumeration(enum_id="test.colour", labels={2: "green", 1: "red"})
INNER = RecordType(type_id="test.inner", fields=(Field(tag=1, name="id", type="string"),))
KIND = Field(tag=9, name="event_kind", type="string")


def table(*fields: Field, **rules: object) -> RecordType:
    return RecordType(type_id="test.record", fields=fields, **rules)  # type: ignore[arg-type]  # one rule at a time


def test_fields_are_kept_in_the_order_of_their_tags():
    record_type = table(Field(tag=7, name="b", type="u8"), Field(tag=2, name="a", type="bool"))

    assert [field.tag for field in record_type.fields] == [2, 7]
    assert record_type.by_tag[7] is record_type.by_name["b"]


def test_a_tag_means_one_field():
    with pytest.raises(Invalid, match="the tag 1 twice"):
        table(Field(tag=1, name="a", type="u8"), Field(tag=1, name="b", type="u8"))


def test_a_name_means_one_field():
    with pytest.raises(Invalid, match="the name a twice"):
        table(Field(tag=1, name="a", type="u8"), Field(tag=2, name="a", type="u8"))


def test_a_record_holds_something():
    with pytest.raises(Invalid, match="has no fields"):
        table()


@pytest.mark.parametrize("tag", [1, TAG_MAX])
def test_a_tag_may_be_one_byte(tag: int):
    assert Field(tag=tag, name="a", type="u8").tag == tag


@pytest.mark.parametrize("tag", [0, -1, TAG_MAX + 1, True, "1"])
def test_any_other_tag_is_refused(tag: int):
    with pytest.raises(Invalid, match="tag_max"):
        Field(tag=tag, name="a", type="u8")


@pytest.mark.parametrize("kind", sorted(TYPES - {"ref"}))
def test_every_type_can_be_used(kind: str):
    assert Field(tag=1, name="a", type=kind).type == kind


@pytest.mark.parametrize("kind", ["str", "f32", "u16", "", "String", "int"])
def test_a_type_that_readers_do_not_know_is_refused(kind: str):
    with pytest.raises(Invalid, match="expected one of any, array, bool"):
        Field(tag=1, name="a", type=kind)


@pytest.mark.parametrize("kind", ["int64", "i64", "u64", "u32", "unix_ms"])
def test_what_readers_show_as_nothing_below_zero_begins_at_zero(kind: str):
    assert INTEGERS[kind][0] == 0


@pytest.mark.parametrize("name", ["a", "a1_b", "x" * FIELD_NAME_CHARS_MAX])
def test_a_name_is_a_lower_case_word(name: str):
    assert Field(tag=1, name=name, type="u8").name == name


@pytest.mark.parametrize("name", ["", "A", "1a", "_a", "a-b", "a b", "é", "x" * (FIELD_NAME_CHARS_MAX + 1), None])
def test_any_other_name_is_refused(name: str):
    with pytest.raises(Invalid, match="is no name in a record"):
        Field(tag=1, name=name, type="u8")


def test_a_nested_record_and_its_type_come_together():
    assert Field(tag=1, name="a", type="ref", ref=INNER).ref is INNER
    with pytest.raises(Invalid, match="the type ref and a nested record, or neither"):
        Field(tag=1, name="a", type="ref")
    with pytest.raises(Invalid, match="the type ref and a nested record, or neither"):
        Field(tag=1, name="a", type="map", ref=INNER)


def test_items_belong_to_arrays_and_maps():
    assert Field(tag=1, name="a", type="array", items=INNER).items is INNER
    assert Field(tag=1, name="a", type="map", items="string").items == "string"
    with pytest.raises(Invalid, match="no array and no map"):
        Field(tag=1, name="a", type="string", items="string")
    with pytest.raises(Invalid, match="a map of records"):
        Field(tag=1, name="a", type="map", items=INNER)


@pytest.mark.parametrize("items", ["array", "map", "ref", "text"])
def test_items_are_a_record_or_a_scalar(items: str):
    with pytest.raises(Invalid, match="expected a record or one of"):
        Field(tag=1, name="a", type="array", items=items)


def test_only_unsigned_integers_have_labels():
    assert Field(tag=1, name="a", type="u8", enum=COLOURS).enum is COLOURS
    with pytest.raises(Invalid, match="has labels"):
        Field(tag=1, name="a", type="string", enum=COLOURS)
    with pytest.raises(Invalid, match="has labels"):
        Field(tag=1, name="a", type="int32", enum=COLOURS)


def test_labels_are_kept_in_the_order_of_their_numbers():
    assert list(COLOURS.labels.items()) == [(1, "red"), (2, "green")]
    assert COLOURS.numbers["green"] == 2


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ({}, "0 labels"),
        ({1: "red", 2: "red"}, "one label for two numbers"),
        ({-1: "red"}, "the number -1"),
        ({True: "red"}, "the number True"),
        ({ENUM_LABELS_MAX: "red"}, "the number 256"),
        ({1: "Red"}, "is no name"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels: dict[int, str], complaint: str):
    with pytest.raises(Invalid, match=complaint):
        Enumeration(enum_id="test.bad", labels=labels)


def test_an_enumeration_has_at_most_the_numbers_of_a_byte():
    full = {number: f"label_{number}" for number in range(ENUM_LABELS_MAX)}

    assert len(Enumeration(enum_id="test.full", labels=full).labels) == ENUM_LABELS_MAX
    with pytest.raises(Invalid, match="257 labels"):
        Enumeration(enum_id="test.over", labels=full | {256: "one_more"})


@pytest.mark.parametrize("type_id", ["a", "forge.agent.event", "cxdb.v3:Item-1_x", "x" * TYPE_ID_CHARS_MAX])
def test_a_type_id_can_be_part_of_an_address(type_id: str):
    assert RecordType(type_id=type_id, fields=(KIND,)).type_id == type_id


@pytest.mark.parametrize("type_id", ["", "a/b", "a#b", "a%b", "a b", "é", "x" * (TYPE_ID_CHARS_MAX + 1)])
def test_any_other_type_id_is_refused(type_id: str):
    with pytest.raises(Invalid, match="is not a type id"):
        RecordType(type_id=type_id, fields=(KIND,))


def test_a_version_is_a_number_of_32_bits():
    for version in (0, TYPE_VERSION_MAX):
        assert table(KIND, version=version).version == version
    for wrong in (-1, TYPE_VERSION_MAX + 1, True, "1"):
        with pytest.raises(Invalid, match="has the version"):
            table(KIND, version=wrong)


@pytest.mark.parametrize(
    "rule",
    [
        {"event_kinds": ("began",)},
        {"exactly_one": ("gone",)},
        {"requirements": (Requirement(name="gone", value="x", present=()),)},
        {"requirements": (Requirement(name="id", value="x", present=("gone",)),)},
    ],
)
def test_a_rule_is_about_fields_of_its_record(rule: dict[str, object]):
    with pytest.raises(Invalid, match="which is no field of it"):
        table(Field(tag=1, name="id", type="string"), **rule)


def test_a_record_names_what_is_nested_in_it_once():
    record_type = table(
        Field(tag=1, name="a", type="array", items=INNER),
        Field(tag=2, name="b", type="ref", ref=INNER),
        Field(tag=3, name="c", type="u8", enum=COLOURS),
        Field(tag=4, name="d", type="u32", enum=COLOURS),
    )

    assert record_type.nested == (INNER,)
    assert record_type.enums == (COLOURS,)
