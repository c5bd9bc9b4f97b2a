"""Trees have one encoding, the one that other writers of them use; what those write differently is read."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain import tree as trees
from perdure.domain.tree import EntryKind, TreeEntry, decode_tree, encode_tree
from perdure.errors import Corrupt, Invalid, LimitExceeded

HASH = b"\x05" * 32
README = TreeEntry(name="a.md", kind=EntryKind.FILE, mode=0o644, size=258, hash=HASH)
README_HEX = f"""85 a131 a4612e6d64 a132 cc00 a133 ce000001a4 a134 cf0000000000000102 a135 c420 {"05" * 32}"""

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."}
)
drawn_entries = st.lists(
    st.builds(
        TreeEntry,
        name=names,
        kind=st.sampled_from(EntryKind),
        mode=st.integers(0, 2**32 - 1),
        size=st.integers(0, 2**64 - 1),
        hash=st.binary(min_size=32, max_size=32),
    ),
    max_size=20,
    unique_by=lambda entry: entry.name,
)


def packed(*entries: object) -> bytes:
    return msgspec.msgpack.encode(list(entries))


def test_a_file_is_these_bytes():
    assert encode_tree([README]) == bytes.fromhex("91" + README_HEX)


def test_a_directory_and_a_link_are_these_bytes():
    link = TreeEntry(name="l", kind=EntryKind.SYMLINK, mode=0o120777, size=4, hash=HASH)
    directory = TreeEntry(name="d", kind=EntryKind.DIRECTORY, mode=2**32 - 1, hash=HASH)

    assert encode_tree([link, directory]) == bytes.fromhex(
        f"""92
        85 a131 a164 a132 cc01 a133 ceffffffff a134 cf0000000000000000 a135 c420 {"05" * 32}
        85 a131 a16c a132 cc02 a133 ce0000a1ff a134 cf0000000000000004 a135 c420 {"05" * 32}"""
    )


def test_an_empty_directory_is_an_empty_array_and_nil_is_read_as_one():
    assert encode_tree([]) == b"\x90"
    assert decode_tree(b"\x90") == decode_tree(b"\xc0") == ()


def test_entries_are_sorted_by_the_bytes_of_their_names():
    given_names = ["é", "a0", "a.b", "a-b", "a", "Z", "B", "\U0001f600", "\uffff"]

    tree = encode_tree([replace(README, name=name) for name in given_names])

    assert [entry.name for entry in decode_tree(tree)] == [
        "B",
        "Z",
        "a",
        "a-b",
        "a.b",
        "a0",
        "é",
        "\uffff",
        "\U0001f600",
    ]


@pytest.mark.parametrize(("count", "header"), [(15, "9f"), (16, "dc0010"), (256, "dc0100")])
def test_an_array_has_the_shortest_header(count: int, header: str):
    tree = encode_tree(replace(README, name=f"{index:06}") for index in range(count))

    assert tree[: len(header) // 2].hex() == header
    assert len(decode_tree(tree)) == count


@pytest.mark.parametrize(("count", "header"), [(65_535, "dcffff"), (65_536, "dd00010000")])
def test_an_array_of_many_has_the_shortest_header(count: int, header: str):
    assert trees._array_header(count).hex() == header
    assert decode_tree(bytes.fromhex(header) + b"\x80" * count) == (TreeEntry(),) * count


@pytest.mark.parametrize(("length", "header"), [(31, "bf"), (32, "d920"), (255, "d9ff"), (256, "da0100")])
def test_a_name_has_the_shortest_header(length: int, header: str):
    tree = encode_tree([replace(README, name="n" * length)])

    assert tree[4:].hex().startswith(header + "6e")


@given(drawn_entries)
def test_what_goes_in_comes_out_in_order(entries: list[TreeEntry]):
    assert decode_tree(encode_tree(entries)) == tuple(sorted(entries, key=lambda entry: entry.name.encode()))


@given(drawn_entries, st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_change_the_bytes(entries: list[TreeEntry], chance: Random):
    tree = encode_tree(entries)
    chance.shuffle(entries)

    assert encode_tree(entries) == tree


@given(drawn_entries)
def test_integer_keys_and_compact_numbers_are_read(entries: list[TreeEntry]):
    tree = packed(*({1: one.name, 2: int(one.kind), 3: one.mode, 4: one.size, 5: one.hash} for one in entries))

    assert decode_tree(tree) == tuple(entries)


def test_what_is_missing_or_nil_is_empty():
    assert decode_tree(packed({}, {"1": None, 2: None, "3": None, 4: None, "5": None})) == (TreeEntry(), TreeEntry())
    assert decode_tree(packed({"1": "x"})) == (TreeEntry(name="x"),)


def test_other_keys_are_passed_over():
    tree = packed({"1": "x", "6": [[{}]], 7: 1.5, "name": "y", 99: msgspec.msgpack.Ext(5, b"z"), 3: 7})

    assert decode_tree(tree) == (TreeEntry(name="x", mode=7),)


def test_an_unknown_kind_is_a_file():
    assert decode_tree(packed({2: 3}, {2: 2**64 - 1})) == (TreeEntry(), TreeEntry())


def test_a_hash_is_read_at_any_length():
    assert decode_tree(packed({5: b"short"})) == (TreeEntry(hash=b"short"),)


@pytest.mark.parametrize(
    "tree",
    [
        b"",
        b"\x80",
        b"\xa1x",
        b"\xc1",
        b"\xdc\x00",
        b"\xdd\x00\x00\x00",
        b"\xdd\x00\x00\xff\xff",
        b"\x91",
        b"\x91\xc0",
        b"\x91\x01",
        b"\x91\x90",
        b"\x90\x90",
        b"\xc0\xc0",
        b"\x91\x81",
        b"\x91\x81\xa1",
        b"\x91\x81\xa1\xff\x01",
        b"\x91\x81\x01\xa1\xff",
        b"\x91" * 5_000 + b"\x90",
        b"\x91\x81\x06" + b"\x91" * 5_000 + b"\x90",
        packed({1: 5}),
        packed({1: b"x"}),
        packed({2: "0"}),
        packed({2: -1}),
        packed({3: 2**32}),
        packed({3: 1.0}),
        packed({4: -1}),
        packed({4: True}),
        packed({5: "x" * 32}),
        packed({None: 1}),
    ],
)
def test_what_is_no_directory_is_corrupt(tree: bytes):
    with pytest.raises(Corrupt, match="is no directory") as refused:
        decode_tree(tree)

    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@given(drawn_entries, st.data())
def test_a_damaged_tree_is_refused_or_read(entries: list[TreeEntry], data: st.DataObject):
    tree = bytearray(encode_tree(entries))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(tree)))
        tree[start : start + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    try:
        read = decode_tree(bytes(tree))
    except (Corrupt, LimitExceeded):
        return
    assert len(read) <= len(tree)
    assert sum(len(entry.name.encode()) + len(entry.hash) for entry in read) <= len(tree)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read(tree: bytes):
    try:
        read = decode_tree(tree)
    except (Corrupt, LimitExceeded):
        return
    assert len(read) <= len(tree)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\ud800"])
def test_a_name_that_is_none_is_refused(name: str):
    with pytest.raises(Invalid):
        encode_tree([replace(README, name=name)])


def test_a_name_is_there_once():
    with pytest.raises(Invalid, match="the same name"):
        encode_tree([README, replace(README, size=1)])


@pytest.mark.parametrize(
    "entry",
    [
        replace(README, hash=b""),
        replace(README, hash=HASH + b"x"),
        replace(README, mode=-1),
        replace(README, mode=2**32),
        replace(README, size=-1),
        replace(README, size=2**64),
    ],
)
def test_what_fits_no_field_is_refused(entry: TreeEntry):
    with pytest.raises(Invalid):
        encode_tree([entry])


def test_a_name_has_a_length():
    longest = "é" * (trees.TREE_NAME_BYTES_MAX // 2)

    assert decode_tree(encode_tree([replace(README, name=longest)]))[0].name == longest
    with pytest.raises(LimitExceeded, match="tree_name_bytes_max"):
        encode_tree([replace(README, name=longest + "x")])


def test_a_directory_has_so_many_entries():
    most = trees.TREE_ENTRIES_MAX
    entries = [replace(README, name=str(index)) for index in range(most + 1)]

    assert encode_tree(entries[:-1]).startswith(b"\xdd" + most.to_bytes(4, "big"))
    with pytest.raises(LimitExceeded, match="tree_entries_max"):
        encode_tree(entries)
    assert len(decode_tree(b"\xdd" + most.to_bytes(4, "big") + b"\x80" * most)) == most
    with pytest.raises(LimitExceeded, match="tree_entries_max"):
        decode_tree(b"\xdd" + (most + 1).to_bytes(4, "big") + b"\x80" * (most + 1))
    with pytest.raises(LimitExceeded, match="tree_entries_max"):
        decode_tree(b"\xdd\xff\xff\xff\xff")


def test_a_directory_has_so_many_bytes():
    # 3 bytes of array header, and with this name 4 160 bytes an entry.
    sized = [replace(README, name=f"{index:04}".ljust(4_096, "n")) for index in range(4_032)]
    room = trees.TREE_BYTES_MAX - len(encode_tree(sized))
    around = len(encode_tree([README])) - 1 - len(README.name) - 1
    last = replace(README, name="z" * (room - around - 3))

    full = encode_tree([*sized, last])
    assert len(full) == trees.TREE_BYTES_MAX
    assert len(decode_tree(full)) == 4_033
    with pytest.raises(LimitExceeded, match="tree_bytes_max"):
        encode_tree([*sized, replace(last, name=last.name + "z")])
    with pytest.raises(LimitExceeded, match="tree_bytes_max"):
        decode_tree(full + b"x")


def test_an_entry_has_so_many_bytes():
    def entry(extra: int) -> bytes:
        return packed({1: "x", 6: b"x" * extra})

    most = trees.TREE_ENTRY_BYTES_MAX - (len(entry(300)) - 300 - 1)

    assert decode_tree(entry(most)) == (TreeEntry(name="x"),)
    with pytest.raises(LimitExceeded, match="tree_entry_bytes_max"):
        decode_tree(entry(most + 1))


def test_a_hostile_map_is_bounded():
    keys = [b"\xcd" + key.to_bytes(2, "big") for key in range(100, 4_100)]
    wide = b"\xde" + len(keys).to_bytes(2, "big") + b"\x01".join([*keys, b""])
    tree = b"\xdc\x00\x64" + wide * 100
    tracemalloc.start()
    try:
        assert decode_tree(tree) == (TreeEntry(),) * 100
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 4 * len(tree)  # as one value, these maps would be forty times as large as their bytes
