"""The recovery table, row by row, in both modes; strict says the same on its second start, and moves nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from perdure.core.tasklist_events import EventName
from perdure.domain.tasklists.failures import (
    EntityMismatch,
    InvalidEncoding,
    NoLoadableSnapshot,
    SnapshotCorrupt,
    SnapshotDecode,
    SnapshotUnreadable,
    StartupLoad,
    UnexpectedCodec,
    UnsupportedLegacyEncryptedArtifact,
    UnsupportedSchemaVersion,
)
from perdure.domain.tasklists.health import RecoveryOutcome
from perdure.domain.tasklists.snapshot_format import Codec, Snapshot, encode_snapshot
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import Corrupt, LegacyArtifact, PerdureError
from tests.domain.tasklists.envelopes import previous
from tests.support.node_files import (
    CODEC,
    LEGACY,
    LIST,
    FaultyFiles,
    Opened,
    encoded,
    failing_always,
    initialize,
    number,
    policy,
    root_with,
    strict_refuses,
    tree,
)

pytestmark = pytest.mark.fast

TORN = encoded(9)[:-3]
FUTURE = encoded(9).replace(b'"schema_version":2', b'"schema_version":3')
LOADED, EMPTY = RecoveryOutcome.LOADED_SNAPSHOT, RecoveryOutcome.EMPTY_STORE
FALLBACK, ENCRYPTED = RecoveryOutcome.DEGRADED_FALLBACK, RecoveryOutcome.UNSUPPORTED_LEGACY


def undecodable() -> bytes:
    """A whole envelope with a payload that is no number."""
    return b"".join(
        encode_snapshot(Snapshot(entity_id=LIST, generation=1, created_at_ms=1, codec=CODEC, payload=b"other"))
    )


ROWS = [
    # newest first; strict's error and code; degraded's outcome, value, what it skipped by code, and what was moved
    ("newest corrupt, older valid", [TORN, encoded(8)], SnapshotCorrupt, "integrity_mismatch", LOADED, 8, 1, 1),
    ("zeros, older valid", [bytes(500), encoded(8)], InvalidEncoding, "invalid_encoding", LOADED, 8, 1, 1),
    ("empty, older valid", [b"", encoded(8)], InvalidEncoding, "invalid_encoding", LOADED, 8, 1, 1),
    ("all corrupt", [TORN, b"x", b""], NoLoadableSnapshot, "no_loadable_snapshot", FALLBACK, None, 3, 3),
    ("one corrupt", [TORN], NoLoadableSnapshot, "no_loadable_snapshot", FALLBACK, None, 1, 1),
    (
        "newest legacy, older valid",
        [LEGACY, encoded(8)],
        UnsupportedLegacyEncryptedArtifact,
        "unsupported_legacy_encrypted_artifact",
        LOADED,
        8,
        1,
        0,
    ),
    (
        "only legacy",
        [LEGACY, LEGACY],
        UnsupportedLegacyEncryptedArtifact,
        "unsupported_legacy_encrypted_artifact",
        ENCRYPTED,
        None,
        2,
        0,
    ),
    (
        "future schema, older valid",
        [FUTURE, encoded(8)],
        UnsupportedSchemaVersion,
        "unsupported_schema_version",
        LOADED,
        8,
        1,
        0,
    ),
    ("only future schema", [FUTURE], UnsupportedSchemaVersion, "unsupported_schema_version", FALLBACK, None, 1, 0),
    ("undecodable, older valid", [undecodable(), encoded(8)], SnapshotDecode, "snapshot_decode", LOADED, 8, 1, 0),
    ("only undecodable", [undecodable()], SnapshotDecode, "snapshot_decode", FALLBACK, None, 1, 0),
    (
        "other codec",
        [encoded(9, codec=Codec(marker="bincode")), encoded(8)],
        UnexpectedCodec,
        "unexpected_codec",
        LOADED,
        8,
        1,
        0,
    ),
    ("other list", [encoded(9, entity_id="chores"), encoded(8)], EntityMismatch, "entity_mismatch", LOADED, 8, 1, 0),
    (
        "legacy and corrupt",
        [LEGACY, TORN],
        UnsupportedLegacyEncryptedArtifact,
        "unsupported_legacy_encrypted_artifact",
        FALLBACK,
        None,
        2,
        1,
    ),
    ("corrupt and legacy", [TORN, LEGACY], NoLoadableSnapshot, "no_loadable_snapshot", FALLBACK, None, 2, 1),
]
Row = tuple[str, list[bytes], type[PerdureError], str, RecoveryOutcome, int | None, int, int]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_fault_06_a_row_of_the_recovery_table(tmp_path: Path, row: Row):
    _, newest_first, error, code, outcome, value, skipped, moved = row
    root_with(tmp_path / "strict", *newest_first)
    strict_refuses(tmp_path / "strict", error, code=code)

    root = tmp_path / "degraded"
    root_with(root, *newest_first)
    with Opened(root, policy()) as opened:
        assert (opened.recovery.outcome, opened.recovery.value) == (outcome, value)
        assert len(opened.recovery.skipped) == skipped
        assert (opened.recovery.failure is None) == (outcome in {LOADED, EMPTY})
        quarantined = [skip.quarantined_as for skip in opened.recovery.skipped if skip.quarantined_as]
        assert len(quarantined) == moved
        assert sorted(path.name for path in (root / LIST).glob("quarantine/*")) == sorted(quarantined)
        opened.write(77)
    with Opened(root, policy("strict", initialize=False)) as opened:
        assert opened.recovery.value == 77, "what degraded writes is what strict loads"


@pytest.mark.parametrize("mode", ["strict", "degraded"])
def test_upstream_56_the_newest_valid_snapshot_is_loaded(tmp_path: Path, mode: str):
    root_with(tmp_path, encoded(9), encoded(8), TORN)
    with Opened(tmp_path, policy(mode)) as opened:
        assert (opened.recovery.outcome, opened.recovery.value, opened.recovery.skipped) == (LOADED, 9, ())
        assert opened.events.names == [EventName.INIT_STARTED, EventName.INIT_LOADED]


@pytest.mark.parametrize("mode", ["strict", "degraded"])
def test_upstream_52_a_list_that_was_never_seen_is_an_empty_store(tmp_path: Path, mode: str):
    initialize(tmp_path)
    with Opened(tmp_path, policy(mode, initialize=False)) as opened:
        assert opened.recovery.outcome is EMPTY
        assert opened.recovery.load_outcome is EMPTY
        assert opened.events.names == [EventName.INIT_STARTED, EventName.INIT_EMPTY_STORE]


def test_upstream_12_and_35_the_legacy_outcome_has_the_source_s_words(tmp_path: Path):
    root_with(tmp_path, LEGACY, encoded(8))
    with Opened(tmp_path, policy()) as opened:
        (skipped,) = opened.recovery.skipped
        assert type(skipped.error).__name__ == "DegradedSkippedLegacyArtifact"
        assert isinstance(skipped.error, LegacyArtifact)
        assert "DegradedSkippedLegacyArtifact" in skipped.error.message
        (event,) = opened.events.of(EventName.LEGACY_DETECTED)
        assert event["outcome"] == "DegradedSkippedLegacyArtifact"


@pytest.mark.parametrize("position", ["newest", "middle", "only"])
@pytest.mark.parametrize("mode", ["strict", "degraded"])
def test_fault_18_an_encrypted_artefact_is_bit_identical_afterwards(tmp_path: Path, mode: str, position: str):
    files = {"newest": [LEGACY, encoded(8)], "middle": [TORN, LEGACY, encoded(7)], "only": [LEGACY]}[position]
    root_with(tmp_path, *files)
    name = f"{LIST}/{snapshot_name(1_000 - files.index(LEGACY))}"
    for _ in range(2):
        try:
            with Opened(tmp_path, policy(mode, initialize=False, checkpoints_to_keep=1)) as opened:
                for value in range(50, 55):
                    opened.write(value)
                opened.writer.retain({LIST})
        except Corrupt:
            assert mode == "strict"
        assert tree(tmp_path)[name] == LEGACY


def test_upstream_59_a_legacy_newest_a_corrupt_second_and_a_valid_third_load_the_third(tmp_path: Path):
    root_with(tmp_path, LEGACY, TORN, encoded(7))
    with Opened(tmp_path, policy()) as opened:
        assert opened.recovery.value == 7
        assert [skip.error.code for skip in opened.recovery.skipped] == [
            "degraded_skipped_legacy_artifact",
            "integrity_mismatch",
        ]


def test_upstream_33_and_36_directories_and_foreign_names_are_no_obstacle_in_degraded(tmp_path: Path):
    root_with(tmp_path, encoded(8))
    (tmp_path / LIST / snapshot_name(2_000)).mkdir()
    for name in ("notes.txt", "42.snapshot", "00000000000000000042.tmp", "99999999999999999999999.snapshot"):
        (tmp_path / LIST / name).write_text("mine")
    with Opened(tmp_path, policy()) as opened:
        assert opened.recovery.value == 8
        (skipped,) = opened.recovery.skipped
        assert isinstance(skipped.error, SnapshotUnreadable)
        assert opened.events.of(EventName.SKIPPED_UNREADABLE)
    strict_refuses(tmp_path, SnapshotUnreadable, code="snapshot_unreadable")


def test_upstream_34_only_unreadable_ones_are_a_fallback_and_fail_strict(tmp_path: Path):
    root_with(tmp_path, encoded(8))
    before = tree(tmp_path)

    def fault(_number: int, name: str, arguments: tuple[object, ...]) -> OSError | None:
        is_snapshot = name == "open" and str(arguments[0]).endswith(".snapshot")
        return OSError(errno.EIO, os.strerror(errno.EIO)) if is_snapshot else None

    with pytest.raises(SnapshotUnreadable):
        Opened(tmp_path, policy("strict"), files=FaultyFiles(fault))
    with Opened(tmp_path, policy(), files=FaultyFiles(fault)) as opened:
        assert opened.recovery.outcome is FALLBACK
        assert opened.recovery.skipped[0].quarantined_as is None
    assert tree(tmp_path) == before


def test_upstream_64_and_65_a_list_that_cannot_be_listed_blocks_strict_and_not_degraded(tmp_path: Path):
    root_with(tmp_path, encoded(8))

    def fault(_number: int, name: str, arguments: tuple[object, ...]) -> OSError | None:
        is_list = name == "names" and str(arguments[0]).endswith(LIST)
        return OSError(errno.EACCES, os.strerror(errno.EACCES)) if is_list else None

    for mode in ("strict", "degraded"):
        files = FaultyFiles(fault)
        if mode == "strict":
            with pytest.raises(StartupLoad):
                Opened(tmp_path, policy(mode), files=files)
        else:
            with Opened(tmp_path, policy(mode), files=files) as opened:
                assert opened.recovery.outcome is FALLBACK
                assert opened.writer.memory_only is None, "other lists are well"


def test_fault_17_a_snapshot_of_the_previous_schema_is_loaded_and_dirty(tmp_path: Path):
    root_with(tmp_path, previous(number(5), codec_marker=CODEC.marker))
    for mode in ("strict", "degraded"):
        with Opened(tmp_path, policy(mode)) as opened:
            assert (opened.recovery.value, opened.recovery.is_migrated) == (5, True)
            assert opened.events.of(EventName.MIGRATION_DECISION)[0]["decision"] == "migrate"


def test_fault_17_a_newer_schema_loads_again_after_the_upgrade(tmp_path: Path):
    root_with(tmp_path, FUTURE, encoded(8))
    with Opened(tmp_path, policy(checkpoints_to_keep=1)) as opened:
        for value in range(10, 15):
            opened.write(value)
        opened.writer.retain({LIST})
    assert (tmp_path / LIST / snapshot_name(1_000)).read_bytes() == FUTURE


def test_an_operator_may_let_strict_put_damaged_files_aside_and_load_an_older_one(tmp_path: Path):
    root_with(tmp_path, TORN, encoded(8))
    strict_refuses(tmp_path, SnapshotCorrupt, code="integrity_mismatch")
    with Opened(tmp_path, policy("strict"), load_older=True) as opened:
        assert opened.recovery.value == 8
        assert opened.recovery.skipped[0].quarantined_as == f"corrupt-{snapshot_name(1_000)}"
    root_with(tmp_path / "legacy", LEGACY, encoded(8))
    with pytest.raises(UnsupportedLegacyEncryptedArtifact):
        Opened(tmp_path / "legacy", policy("strict"), load_older=True)


def test_a_quarantine_that_fails_does_not_stop_the_scan(tmp_path: Path):
    root_with(tmp_path, TORN, encoded(8))
    with Opened(tmp_path, policy(), files=FaultyFiles(failing_always(errno.EROFS, "link"))) as opened:
        assert (opened.recovery.value, opened.recovery.skipped[0].quarantined_as) == (8, None)
        assert opened.events.of(EventName.QUARANTINE_FAILED)
