"""The registry's bundle: what it says of the tables, and what a later one may not change."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.domain.turn import BUNDLE_BYTES_MAX, BUNDLE_ID_CHARS_MAX, TYPE_VERSION_MAX
from perdure.domain.turn_records.bundle import Clash, ClashKind, bundle, clashes
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES, find_record_type
from perdure.domain.turn_records.fields import Enumeration, Field, RecordType
from perdure.errors import Invalid, LimitExceeded

ROOT = Path(__file__).parents[3]
CHECKED_IN = {
    int(found[1]): entry.read_bytes()
    for entry in importlib.resources.files("perdure.domain.turn_records").iterdir()
    if (found := re.fullmatch(r"bundle_v([0-9]+)\.json", entry.name))
}
COLOURS = Enumeration(enum_id="test.colour", labels={2: "green", 1: "red"})
LEAF = RecordType(type_id="test.leaf", fields=(Field(tag=1, name="name", type="string"),))
TREE = RecordType(
    type_id="test.tree",
    fields=(
        Field(tag=10, name="leaf", type="ref", ref=LEAF),
        Field(tag=2, name="leaves", type="array", items=LEAF, optional=True),
        Field(tag=3, name="words", type="array", items="string"),
        Field(tag=4, name="colour", type="u8", enum=COLOURS),
    ),
)


def of(*record_types: RecordType) -> bytes:
    return bundle(record_types, bundle_id="test.v1", version=1)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bundle of TREE after a change."""
    content = json.loads(of(TREE))
    change(content)
    return json.dumps(content).encode()


def test_the_bundle_that_is_checked_in_is_what_the_tables_say():
    # A table changed: raise BUNDLE_VERSION and the record's version, then run tools/generate_bundle.py.
    assert CHECKED_IN[BUNDLE_VERSION] == bundle(RECORD_TYPES, bundle_id=BUNDLE_ID, version=BUNDLE_VERSION)
    assert max(CHECKED_IN) == BUNDLE_VERSION


def test_every_bundle_may_be_published_after_those_before_it():
    versions = sorted(CHECKED_IN)

    for newer in versions:
        for older in versions:
            if older <= newer:
                assert clashes(CHECKED_IN[older], CHECKED_IN[newer]) == ()


def test_every_record_and_what_is_nested_in_it_is_in_the_bundle():
    types = json.loads(CHECKED_IN[BUNDLE_VERSION])["types"]
    waiting = list(RECORD_TYPES)
    names = set()
    while waiting:
        record_type = waiting.pop()
        names.add(record_type.type_id)
        fields = types[record_type.type_id]["versions"][str(record_type.version)]["fields"]
        assert {int(tag): entry["name"] for tag, entry in fields.items()} == {
            tag: field.name for tag, field in record_type.by_tag.items()
        }
        waiting += record_type.nested

    assert set(types) == names


def test_a_bundle_s_id_tells_its_version_and_is_the_same_in_an_address_and_a_file_name():
    content = json.loads(CHECKED_IN[BUNDLE_VERSION])

    assert content["bundle_id"] == f"perdure.turns.v{BUNDLE_VERSION}"
    assert content["registry_version"] == BUNDLE_VERSION


def test_every_record_is_found_by_its_type_and_version():
    for record_type in RECORD_TYPES:
        assert find_record_type(record_type.type_id, version=record_type.version) is record_type
    assert find_record_type("forge.agent.user_turn", version=2) is None
    assert find_record_type("other.type", version=1) is None


def test_a_bundle_says_what_a_registry_reads():
    assert json.loads(of(TREE)) == {
        "registry_version": 1,
        "bundle_id": "test.v1",
        "types": {
            "test.leaf": {"versions": {"1": {"fields": {"1": {"name": "name", "type": "string"}}}}},
            "test.tree": {
                "versions": {
                    "1": {
                        "fields": {
                            "2": {
                                "name": "leaves",
                                "type": "array",
                                "optional": True,
                                "items": {"type": "ref", "ref": "test.leaf"},
                            },
                            "3": {"name": "words", "type": "array", "items": "string"},
                            "4": {"name": "colour", "type": "u8", "enum": "test.colour"},
                            "10": {"name": "leaf", "type": "ref", "ref": "test.leaf"},
                        }
                    }
                }
            },
        },
        "enums": {"test.colour": {"1": "red", "2": "green"}},
    }


def test_the_order_of_the_tables_leaves_no_trace():
    assert of(TREE, LEAF) == of(LEAF, TREE, LEAF)
    assert list(json.loads(of(TREE))["types"]["test.tree"]["versions"]["1"]["fields"]) == ["2", "3", "4", "10"]


def test_one_version_of_a_type_has_one_table():
    other = RecordType(type_id="test.leaf", fields=(Field(tag=1, name="title", type="string"),))

    with pytest.raises(Invalid, match=r"test\.leaf has two tables of version 1"):
        of(TREE, other)


def test_one_enumeration_has_one_mapping():
    other = Enumeration(enum_id="test.colour", labels={1: "red"})
    record_type = RecordType(type_id="test.x", fields=(Field(tag=1, name="c", type="u8", enum=other),))

    with pytest.raises(Invalid, match=r"test\.colour has two sets of labels"):
        of(TREE, record_type)


@pytest.mark.parametrize("bundle_id", ["a/b", "a:b", "a#b", "a%b", "a b", "é"])
def test_an_id_that_could_not_be_fetched_is_refused(bundle_id: str):
    with pytest.raises(Invalid, match="is not a bundle id"):
        bundle([TREE], bundle_id=bundle_id, version=1)


def test_an_id_has_at_most_its_characters():
    assert bundle([TREE], bundle_id="x" * BUNDLE_ID_CHARS_MAX, version=1)
    with pytest.raises(LimitExceeded, match="bundle_id_chars_max"):
        bundle([TREE], bundle_id="x" * (BUNDLE_ID_CHARS_MAX + 1), version=1)


def test_a_version_is_a_number_from_1_on():
    assert json.loads(bundle([TREE], bundle_id="t", version=TYPE_VERSION_MAX))["registry_version"] == TYPE_VERSION_MAX
    for wrong in (0, -1, True, TYPE_VERSION_MAX + 1):
        with pytest.raises(Invalid, match="a bundle's version is"):
            bundle([TREE], bundle_id="t", version=wrong)


def test_a_bundle_does_not_clash_with_itself_or_with_strangers():
    assert clashes(of(TREE), of(TREE)) == ()
    assert clashes(of(TREE), CHECKED_IN[BUNDLE_VERSION]) == ()


def test_another_spelling_of_the_same_table_is_no_clash():
    def respell(content: dict[str, Any]) -> None:
        fields = content["types"]["test.tree"]["versions"]["1"]["fields"]
        fields["2"]["items"] = {"ref": "test.leaf"}
        fields["3"] |= {"items": {"type": "string"}, "optional": False, "semantic": "ignored"}

    assert clashes(of(TREE), changed(respell)) == ()


@pytest.mark.parametrize(
    ("tag", "change"),
    [
        ("3", {"name": "terms"}),
        ("3", {"type": "map"}),
        ("3", {"optional": True}),
        ("3", {"items": "any"}),
        ("2", {"items": {"type": "ref", "ref": "test.tree"}}),
        ("10", {"ref": "test.tree"}),
        ("4", {"enum": None}),
        ("11", {"name": "more", "type": "u8", "optional": True}),
    ],
)
def test_a_version_of_a_type_keeps_its_fields(tag: str, change: dict[str, object]):
    def edit(content: dict[str, Any]) -> None:
        fields = content["types"]["test.tree"]["versions"]["1"]["fields"]
        fields[tag] = fields.get(tag, {}) | change

    (clash,) = clashes(of(TREE), changed(edit))

    assert (clash.kind, clash.subject, clash.version) == (ClashKind.FIELDS_CHANGED, "test.tree", 1)
    assert "needs a new version" in clash.message


def test_a_field_cannot_be_taken_from_a_version():
    (clash,) = clashes(
        of(TREE), changed(lambda content: content["types"]["test.tree"]["versions"]["1"]["fields"].pop("3"))
    )

    assert clash.kind is ClashKind.FIELDS_CHANGED


def version_2(fields: dict[str, Any]) -> bytes:
    return changed(lambda content: content["types"]["test.tree"]["versions"].update({"2": {"fields": fields}}))


@pytest.mark.parametrize(
    "fields",
    [
        {"3": {"name": "words", "type": "string"}},
        {"4": {"name": "colour", "type": "u32", "enum": "test.colour"}},
        {"4": {"name": "colour", "type": "u8"}},
        {"3": {"name": "words", "type": "array", "enum": "test.colour"}},
    ],
)
def test_a_tag_keeps_its_type_and_enumeration_for_ever(fields: dict[str, Any]):
    (clash,) = clashes(of(TREE), version_2(fields))

    assert (clash.kind, clash.subject, clash.version) == (ClashKind.TAG_CHANGED, "test.tree", 2)
    assert clash.tag == int(next(iter(fields)))
    assert "needs a tag of its own" in clash.message


def test_a_tag_is_kept_among_the_versions_of_one_bundle_too():
    def add(content: dict[str, Any]) -> None:
        content["types"]["test.new"] = {
            "versions": {
                "1": {"fields": {"1": {"name": "a", "type": "u8"}}},
                "2": {"fields": {"1": {"name": "a", "type": "string"}}},
            }
        }

    (clash,) = clashes(of(TREE), changed(add))

    assert (clash.kind, clash.subject, clash.version, clash.tag) == (ClashKind.TAG_CHANGED, "test.new", 2, 1)


def test_a_new_version_may_rename_and_drop_and_add_and_refer_to_others():
    fields = {
        "3": {"name": "terms", "type": "array", "items": "any"},
        "10": {"name": "tree", "type": "ref", "ref": "test.tree", "optional": True},
        "11": {"name": "more", "type": "u8"},
    }

    assert clashes(of(TREE), version_2(fields)) == ()


def test_what_a_later_bundle_leaves_out_is_no_clash():
    assert clashes(of(TREE), of(LEAF)) == ()


@pytest.mark.parametrize("labels", [{"1": "red"}, {"1": "red", "2": "green", "3": "blue"}, {"1": "green", "2": "red"}])
def test_an_enumeration_keeps_its_mapping(labels: dict[str, str]):
    (clash,) = clashes(of(TREE), changed(lambda content: content["enums"].update({"test.colour": labels})))

    assert clash == Clash(
        kind=ClashKind.ENUM_CHANGED,
        subject="test.colour",
        message="test.colour has other labels; a changed enumeration needs an id of its own",
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"bundle_id": "x"}',
        b'{"registry_version": 1}',
        b'{"registry_version": 0, "bundle_id": "x"}',
        b'{"registry_version": 1, "bundle_id": "x", "types": {"a": {"versions": {"one": {}}}}}',
        of(LEAF).replace(b'"1": {', b'"-1": {'),
        of(LEAF).replace(b'"1": {', b'"99999999999999999999999": {'),
        b'{"registry_version": 1, "bundle_id": "x", "types": []}',
        b'{"a": ' * 20_000,
    ],
)
def test_what_is_no_bundle_is_refused(raw: bytes):
    with pytest.raises(Invalid, match="bundle"):
        clashes(raw, of(TREE))
    with pytest.raises(Invalid, match="bundle"):
        clashes(of(TREE), raw)


def test_a_bundle_is_read_up_to_its_limit():
    raw = of(TREE)
    assert clashes(raw, raw.ljust(BUNDLE_BYTES_MAX)) == ()
    with pytest.raises(LimitExceeded, match="bundle_bytes_max"):
        clashes(raw, raw.ljust(BUNDLE_BYTES_MAX + 1))


def generate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_bundle.py", "--folder", folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )


def test_a_bundle_that_was_published_is_never_written_over(tmp_path: Path):
    path = tmp_path / f"bundle_v{BUNDLE_VERSION}.json"
    published = CHECKED_IN[BUNDLE_VERSION].replace(b'"name": "content"', b'"name": "text"')
    path.write_bytes(published)

    refused = generate(tmp_path)

    assert refused.returncode == 1
    assert "raise BUNDLE_VERSION" in refused.stderr
    assert path.read_bytes() == published
    assert generate(tmp_path, "--replace-unreleased").returncode == 0
    assert path.read_bytes() == CHECKED_IN[BUNDLE_VERSION]


def test_a_bundle_that_is_missing_is_found_and_written(tmp_path: Path):
    assert generate(tmp_path, "--check").returncode == 1
    assert list(tmp_path.iterdir()) == []
    assert generate(tmp_path).returncode == 0
    assert generate(tmp_path, "--check").returncode == 0


def test_a_bundle_that_clashes_with_a_later_one_is_found(tmp_path: Path):
    assert generate(tmp_path).returncode == 0
    later = CHECKED_IN[BUNDLE_VERSION].replace(b'"name": "content"', b'"name": "text"')
    (tmp_path / "bundle_v999.json").write_bytes(later)

    checked = generate(tmp_path, "--check")

    assert checked.returncode == 1
    assert "bundle_v999.json: forge.agent.assistant_turn version 1 has other fields" in checked.stderr
