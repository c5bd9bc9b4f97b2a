"""What a first turn says about its conversation."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from perdure.adapters.cxdb.http_server.limits import METADATA_CHARS_MAX, METADATA_ITEMS_MAX
from perdure.adapters.cxdb.http_server.metadata import NOTHING, Metadata, metadata_of
from tests.adapters.cxdb.http_server.test_values import documents

pytestmark = pytest.mark.fast


def said(metadata: object) -> Metadata:
    """What a payload says that holds this metadata."""
    return metadata_of(msgspec.msgpack.encode({1: "x", 30: metadata}))


def test_keys_are_numbers_or_digits() -> None:
    expected = Metadata(client_tag="forge", title="A plan", labels=("x", "y"))
    assert said({1: "forge", 2: "A plan", 3: ["x", "y"]}) == expected
    digits = {"30": {"1": "forge", "2": "A plan", "3": ["x", "y"], "4": {"a": "b"}}}
    assert metadata_of(msgspec.msgpack.encode(digits)) == expected


def test_provenance_has_each_of_its_keys() -> None:
    provenance = said({10: {1: 7, 2: "fork", "10": "t", 43: 5, 51: 65_535, 60: {"A": "b", "C": 5}, 80: 9}}).provenance
    assert provenance is not None
    assert len(provenance) == 25
    given = {name: value for name, value in provenance.items() if value is not None}
    assert given == {
        "parent_context_id": 7,
        "spawn_reason": "fork",
        "trace_id": "t",
        "process_pid": 5,
        "client_port": 65_535,
        "env": {"A": "b"},
        "captured_at": 9,
    }


def test_a_value_of_another_type_is_not_said() -> None:
    found = said({1: 5, 2: b"x", 3: ["x", 5, None], 10: {1: "7", 3: -1, 10: 5, 51: 65_536, 60: [], 43: True}})
    assert (found.client_tag, found.title, found.labels) == (None, None, ("x",))
    assert found.provenance is not None
    assert set(found.provenance.values()) == {None}
    assert said({3: "x", 10: 5}) == NOTHING
    assert said([]) == NOTHING


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x90", b"\x81\x01\x02", b"\x81\x1e\xc0", b"\x81\x01" + b"\x91" * 999]
)
def test_a_payload_that_says_nothing_says_nothing(payload: bytes) -> None:
    assert metadata_of(payload) == NOTHING


def test_texts_and_lists_have_an_end() -> None:
    longest = "x" * METADATA_CHARS_MAX
    assert said({2: longest}).title == longest
    assert said({2: longest + "x"}).title is None
    most = [str(number) for number in range(METADATA_ITEMS_MAX)]
    assert said({3: [*most, "more"]}).labels == tuple(most)


@given(documents)
def test_anything_may_be_said(document: object) -> None:
    assert isinstance(said(document), Metadata)
