"""An id is the name of one directory below the root, on any system, or it is refused."""

from __future__ import annotations

import pytest

from perdure.domain.tasklists.entity_ids import ENTITY_ID_BYTES_MAX, check_entity_id
from perdure.domain.tasklists.failures import InvalidEntityId

UPSTREAM = ("../escape", "..\\escape", "/tmp/escape", "nested/path", "nested\\path", "%2e%2e%2fescape")
OTHERS = (
    "",
    ".",
    "..",
    ".hidden",
    "dot.",
    " lead",
    "trail ",
    "nul\x00",
    "line\nfeed",
    "bell\x07",
    "c:drive",
    "wild*",
    "CON",
    "com1.txt",
    "store.manifest.json",
    "Quarantine",
    "half\ud800",
)


@pytest.mark.parametrize("entity_id", [*UPSTREAM, *OTHERS])
def test_upstream_37_an_id_that_could_lead_elsewhere_is_refused_with_its_reason(entity_id: str):
    with pytest.raises(InvalidEntityId) as refused:
        check_entity_id(entity_id)

    assert refused.value.code == "invalid_entity_id"
    assert refused.value.detail["reason"]


@pytest.mark.parametrize("entity_id", ["a", "t_acme", "x" * 64, "Einkäufe 2026", "v1.2", "комната"])
def test_an_ordinary_id_is_itself(entity_id: str):
    assert check_entity_id(entity_id) == entity_id


def test_an_id_has_two_hundred_bytes_at_most():
    assert check_entity_id("ä" * (ENTITY_ID_BYTES_MAX // 2))
    for long in ("a" * (ENTITY_ID_BYTES_MAX + 1), "ä" * (ENTITY_ID_BYTES_MAX // 2) + "a"):
        with pytest.raises(InvalidEntityId, match="entity_id_bytes_max"):
            check_entity_id(long)


def test_an_id_that_is_no_text_is_refused():
    with pytest.raises(InvalidEntityId, match="not text"):
        check_entity_id(7)
