"""The manifest: whose a root is, and which lists were ever written, readable and verified."""

from __future__ import annotations

import json
from types import MappingProxyType

import pytest

from perdure.domain.tasklists import manifest as manifests
from perdure.domain.tasklists.failures import ManifestInvalid, ManifestUnsupported
from perdure.domain.tasklists.manifest import (
    Manifest,
    decode_manifest,
    encode_manifest,
    with_list,
    without_list,
)
from perdure.errors import Corrupt, LimitExceeded

MANIFEST = Manifest(store_id="node-1", created_at_ms=5, lists=MappingProxyType({"chores": 6, "groceries": 7}))


def test_what_is_encoded_is_decoded_and_people_can_read_it():
    data = encode_manifest(MANIFEST)

    assert decode_manifest(data) == MANIFEST
    assert data.startswith(b'{\n  "format": "perdure-tasklist-store",\n  "schema_version": 1,\n  "store_id": "node-1"')


def test_lists_are_added_and_taken_away_without_changing_the_value():
    more = with_list(MANIFEST, "garden", first_checkpoint_ms=9)

    assert dict(more.lists) == {"chores": 6, "groceries": 7, "garden": 9}
    assert dict(without_list(more, "chores").lists) == {"groceries": 7, "garden": 9}
    assert dict(MANIFEST.lists) == {"chores": 6, "groceries": 7}


def test_no_flipped_bit_is_read_as_another_manifest():
    data = encode_manifest(MANIFEST)
    for at in range(len(data)):
        for bit in range(8):
            try:
                read = decode_manifest(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])
            except Corrupt:
                continue
            assert read == MANIFEST, f"byte {at}, bit {bit}"  # white space between fields


def test_a_manifest_cut_at_any_length_is_invalid():
    data = encode_manifest(MANIFEST)
    for length in range(len(data) - 1):  # without its last line feed it is whole
        with pytest.raises(ManifestInvalid):
            decode_manifest(data[:length])


def test_another_schema_is_unsupported_and_not_invalid():
    for version in (0, 2):
        data = encode_manifest(MANIFEST).replace(b'"schema_version": 1', b'"schema_version": %d' % version)
        with pytest.raises(ManifestUnsupported) as refused:
            decode_manifest(data)
        assert refused.value.detail == {"found": version, "supported": 1}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("store_id", 7),
        ("created_at_ms", "5"),
        ("created_at_ms", True),
        ("lists", []),
        ("lists", {"a": "6"}),
        ("more", 1),
    ],
)
def test_a_field_of_another_type_is_invalid_even_with_a_digest_that_fits(field: str, value: object):
    body = json.loads(encode_manifest(MANIFEST))
    body.pop("integrity")
    body[field] = value
    data = {**body, "integrity": {"algorithm": "blake3", "digest_hex": manifests._digest(body)}}

    with pytest.raises(ManifestInvalid):
        decode_manifest(json.dumps(data).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"schema_version":true}', b'{"a":1,"a":2}', b"\xff"])
def test_what_is_no_manifest_is_invalid(data: bytes):
    with pytest.raises(ManifestInvalid):
        decode_manifest(data)


def test_a_manifest_above_its_limit_is_not_written(monkeypatch: pytest.MonkeyPatch):
    size = len(encode_manifest(MANIFEST))
    monkeypatch.setattr(manifests, "MANIFEST_BYTES_MAX", size)
    assert len(encode_manifest(MANIFEST)) == size
    with pytest.raises(LimitExceeded, match="manifest_bytes_max"):
        encode_manifest(with_list(MANIFEST, "x", first_checkpoint_ms=1))
