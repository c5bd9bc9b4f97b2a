"""The envelope: what was written is what is read, and nothing else is ever read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain.tasklists import snapshot_format
from perdure.domain.tasklists.failures import (
    EntityMismatch,
    IntegrityMismatch,
    InvalidEncoding,
    SnapshotCorrupt,
    UnexpectedCodec,
    UnsupportedLegacyEncryptedArtifact,
    UnsupportedSchemaVersion,
)
from perdure.domain.tasklists.snapshot_format import (
    CODEC_MARKER_CHARS_MAX,
    HEADER_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    Codec,
    encode_snapshot,
    is_movable,
)
from perdure.errors import Corrupt, DigestMismatch, Invalid, LimitExceeded
from tests.domain.tasklists.envelopes import CODEC, PAYLOAD, decoded, encoded, previous, snapshot

LEGACY = b'{"ciphertext":"abc","nonce":"123","key_id":"k1"}'


def refusal(data: bytes) -> Corrupt | None:
    """How a file is refused, None if it is read."""
    try:
        decoded(data)
    except Corrupt as exc:
        return exc
    return None


def loads_as_something_else(data: bytes) -> bool:
    """Whether a file that was changed is read as a snapshot with another content: what must never be."""
    try:
        read = decoded(data)
    except Corrupt:
        return False
    return read != snapshot() and read.payload != PAYLOAD


def test_upstream_01_what_is_encoded_is_decoded_as_current():
    read = decoded(encoded())

    assert read == snapshot()
    assert not read.migrated


@given(payload=st.binary(max_size=500), generation=st.integers(0, 2**53 - 1), created_at_ms=st.integers(0, 2**53 - 1))
def test_any_payload_comes_back(payload: bytes, generation: int, created_at_ms: int):
    written = snapshot(payload, generation=generation, created_at_ms=created_at_ms)

    assert decoded(b"".join(encode_snapshot(written))) == written


def test_the_header_is_one_line_that_says_everything_about_itself():
    line, payload = encoded().split(b"\n", 1)
    header = json.loads(line)

    assert payload == PAYLOAD
    assert {name: header[name] for name in sorted(header) if name != "integrity"} == {
        "codec_marker": "yrs-v1",
        "codec_version": 1,
        "created_at_ms": 1_700_000_000_000,
        "entity_id": "groceries",
        "format": "perdure-tasklist-snapshot",
        "generation": 7,
        "payload_len": len(PAYLOAD),
        "schema_version": 2,
    }
    assert header["integrity"]["algorithm"] == "blake3"


def test_upstream_02_a_payload_that_was_changed_is_an_integrity_mismatch():
    with pytest.raises(IntegrityMismatch) as refused:
        decoded(encoded()[:-1] + b"!")

    assert refused.value.code == "integrity_mismatch"
    assert not isinstance(refused.value, DigestMismatch), "the source's word, below SnapshotCorrupt"


def test_the_digest_covers_the_header_too():
    data = encoded()

    assert isinstance(refusal(data.replace(b'"generation":7', b'"generation":8')), IntegrityMismatch)
    assert isinstance(refusal(data.replace(b'"codec_version":1', b'"codec_version":2')), IntegrityMismatch)


@pytest.mark.parametrize("data", [encoded(), previous()], ids=["current", "previous"])
def test_fault_04_no_flipped_bit_is_read_as_another_content(data: bytes):
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            assert not loads_as_something_else(flipped), f"byte {at}, bit {bit}"


def test_fault_04_every_flipped_bit_of_the_current_schema_is_refused():
    data = encoded()
    for at in range(len(data)):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            assert refusal(flipped) is not None, f"byte {at}, bit {bit}"


def test_a_mutant_that_skips_the_digest_is_caught_by_the_flipped_bits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(snapshot_format, "_digest", lambda _header, _payload: "0" * 64)

    with pytest.raises(AssertionError, match="byte"):
        test_fault_04_every_flipped_bit_of_the_current_schema_is_refused()


@pytest.mark.parametrize("data", [encoded(), previous()], ids=["current", "previous"])
def test_fault_05_a_file_cut_at_any_length_is_refused(data: bytes):
    for length in range(len(data)):
        failure = refusal(data[:length])
        assert isinstance(failure, SnapshotCorrupt), f"{length} bytes"
        assert is_movable(failure)


@pytest.mark.parametrize(
    "data",
    [
        encoded() + b"x",
        encoded() + b"\n",
        encoded() + encoded(),
        previous() + b"x",
        previous() + b"\n",
        b"\x00" * 4_096,
        b"\n" * 10,
        b"{}",
        b"[]",
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'{"format":' * 100_000,
        encoded().replace(b'{"codec', b'{"generation":7,"codec', 1),
        encoded().replace(b'"generation":7', b'"generation":7,"generation":7'),
        encoded().replace(b'"generation":7', b'"generation":NaN'),
        encoded().replace(b'"generation":7', b'"generation":7.0'),
        encoded().replace(b'"generation":7', b'"generation":true'),
        encoded().replace(b'"generation":7', b'"generation":-7'),
        encoded().replace(b'"generation":7', b'"generation":' + b"9" * 5_000),
        encoded().replace(b'"generation":7', b'"generation":"7"'),
        encoded().replace(b'"generation":7', b'"generation": 7'),
        encoded().replace(b'"payload_len":9', b'"payload_len":1073741824'),
        encoded().replace(b'"algorithm":"blake3"', b'"algorithm":"blake2"'),
        encoded().replace(b"groceries", b"groc\xff\xfeies"),
        encoded().replace(b"groceries", b'groc\\ud800ies"'[:-1]),
        previous().replace(b'"codec_version":1', b'"codec_version":1,"codec_version":1'),
        previous(numbers=[300]),
        previous(numbers=[True]),
        previous(numbers=[1.0]),
        previous(numbers="bWlsaw=="),
        previous(extra=1),
        previous(integrity={"algorithm": "sha256", "digest_hex": "0" * 64}),
        previous(integrity={"algorithm": "blake3", "digest_hex": "A" * 64}),
        previous(schema_version=2),
        previous(schema_version=True),
    ],
)
def test_fault_05_what_is_no_envelope_is_refused_as_corrupt(data: bytes):
    failure = refusal(data)

    assert isinstance(failure, SnapshotCorrupt)
    assert is_movable(failure)


def test_upstream_04_what_is_not_json_is_an_invalid_encoding_and_not_legacy():
    for data in (b"", b"not json", b"ciphertext nonce key_id", b"\xff\xfe{}"):
        with pytest.raises(InvalidEncoding):
            decoded(data)


def test_a_file_above_the_limit_is_refused_before_it_is_parsed_and_none_is_written():
    with pytest.raises(InvalidEncoding, match="snapshot_bytes_max"):
        decoded(b"x" * (SNAPSHOT_BYTES_MAX + 1))
    overhead = len(encoded(b"")) + 7  # the length has eight digits then, not one
    largest = bytes(SNAPSHOT_BYTES_MAX - overhead)
    assert sum(len(piece) for piece in encode_snapshot(snapshot(largest))) == SNAPSHOT_BYTES_MAX
    with pytest.raises(LimitExceeded, match="snapshot_bytes_max"):
        encode_snapshot(snapshot(largest + b"x"))


def test_the_longest_header_fits_its_bound():
    longest = encoded(
        entity_id="ä" * 100,
        codec=Codec(marker="m" * CODEC_MARKER_CHARS_MAX, version=2**53 - 1),
        generation=2**53 - 1,
        created_at_ms=2**53 - 1,
    )

    assert len(longest.split(b"\n")[0]) < HEADER_BYTES_MAX


def test_a_codec_has_a_marker_of_sixty_four_ascii_characters_at_most_and_counts_from_one():
    assert Codec(marker="m" * CODEC_MARKER_CHARS_MAX).version == 1
    for marker, version in (("", 1), ("m" * (CODEC_MARKER_CHARS_MAX + 1), 1), ("ä", 1), ("m", 0)):
        with pytest.raises(Invalid):
            Codec(marker=marker, version=version)


@pytest.mark.parametrize("other", [Codec(marker="bincode"), Codec(marker="yrs-v1", version=2)])
def test_another_codec_is_told_by_name_and_the_file_is_not_damaged(other: Codec):
    for data in (encoded(codec=other), previous(codec_marker=other.marker, codec_version=other.version)):
        with pytest.raises(UnexpectedCodec) as refused:
            decoded(data)
        assert not is_movable(refused.value)
        assert decoded(data, codec=None).codec == other


def test_a_snapshot_in_the_directory_of_another_list_is_refused_and_not_damaged():
    with pytest.raises(EntityMismatch) as refused:
        decoded(encoded(entity_id="chores"))

    assert not is_movable(refused.value)


@pytest.mark.parametrize("version", [0, 3, 4_000_000_000])
def test_upstream_11_and_fault_17_another_schema_is_typed_and_not_damaged(version: int):
    data = encoded().replace(b'"schema_version":2', b'"schema_version":%d' % version)
    for other in (data, previous(schema_version=version)):
        with pytest.raises(UnsupportedSchemaVersion) as refused:
            decoded(other)
        assert refused.value.detail == {"found": version, "min_supported": 1, "max_supported": 2}
        assert not is_movable(refused.value)


def test_upstream_11_and_fault_17_the_previous_schema_is_migrated():
    read = decoded(previous())

    assert read.migrated
    assert (read.payload, read.entity_id, read.generation, read.created_at_ms) == (PAYLOAD, "groceries", 0, 42)
    assert decoded(b"".join(encode_snapshot(read))).payload == PAYLOAD


LEGACY_VARIANTS = [
    LEGACY,
    LEGACY + b"\n",
    json.dumps(json.loads(LEGACY), indent=2).encode(),
    b'{"ciphertext":null,"iv":0,"key_id":[]}',
    *(b'{"ciphertext":"","nonce":"","%s":null}' % key for key in (b"key_id", b"kdf", b"aad", b"encryption")),
    previous(ciphertext="x", nonce="y", kdf="z"),
    encoded().replace(b'{"codec', b'{"ciphertext":"","nonce":"","aad":"","codec', 1),
]
NEAR_MISSES = [
    b'{"nonce":"123","key_id":"k1"}',
    b'{"ciphertext":"abc","key_id":"k1"}',
    b'{"ciphertext":"abc","nonce":"123"}',
    b'[{"ciphertext":"abc","nonce":"123","key_id":"k1"}]',
    b'{"inner":{"ciphertext":"abc","nonce":"123","key_id":"k1"}}',
    LEGACY[:-1],
    LEGACY + b"\nmore",
]


@pytest.mark.parametrize("data", LEGACY_VARIANTS)
def test_upstream_03_and_fault_18_an_encrypted_artefact_is_told_apart(data: bytes):
    with pytest.raises(UnsupportedLegacyEncryptedArtifact) as refused:
        decoded(data)

    assert "UnsupportedLegacyEncryptedArtifact" in refused.value.message
    assert "plaintext" in refused.value.message
    assert not is_movable(refused.value)


@pytest.mark.parametrize("data", NEAR_MISSES)
def test_upstream_63_and_fault_18_a_near_miss_is_not_an_encrypted_artefact(data: bytes):
    assert isinstance(refusal(data), InvalidEncoding)


def test_no_message_quotes_what_is_in_a_file():
    secret = b"hunter2-secret"
    for data in (
        encoded(secret)[:-1] + b"!",
        encoded(secret)[:-3],
        secret,
        previous(secret)[:-4],
        b'{"x":"%s"}' % secret,
    ):
        failure = refusal(data)
        assert failure is not None
        assert b"hunter2" not in (failure.message + repr(failure) + repr(failure.detail)).encode()
    assert "hunter2" not in repr(decoded(encoded(secret)))


def test_a_codec_is_compared_as_a_whole():
    assert decoded(encoded(), codec=CODEC).codec == CODEC
