"""Which roots a node starts on: whose they are, who holds them, what is missing, and what health says then."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from perdure.core.tasklist_events import EventName
from perdure.domain.tasklists.failures import (
    InvalidEntityId,
    NoLoadableSnapshot,
    PersistenceNotInitialized,
    SnapshotNotFound,
    StoreLocked,
    StoreMismatch,
)
from perdure.domain.tasklists.health import RecoveryOutcome
from perdure.domain.tasklists.snapshot_names import snapshot_name
from perdure.errors import Corrupt, LegacyArtifact
from tests.support.node_files import (
    CODEC,
    LEGACY,
    LIST,
    Events,
    Opened,
    decode_number,
    encoded,
    initialize,
    number,
    policy,
    root_with,
    strict_refuses,
    tree,
)
from tests.support.node_files import snapshot_root as make_root

pytestmark = pytest.mark.fast

TORN = encoded(9)[:-3]
FUTURE = encoded(9).replace(b'"schema_version":2', b'"schema_version":3')
LOADED, EMPTY = RecoveryOutcome.LOADED_SNAPSHOT, RecoveryOutcome.EMPTY_STORE
FALLBACK, ENCRYPTED = RecoveryOutcome.DEGRADED_FALLBACK, RecoveryOutcome.UNSUPPORTED_LEGACY


def test_upstream_09_and_61_strict_does_not_start_on_a_root_without_a_manifest(tmp_path: Path):
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PersistenceNotInitialized, match="initialize_if_missing"):
            Opened(root, policy("strict", initialize=False))
    assert list(tmp_path.iterdir()) == [], "and leaves no trace there"


def test_upstream_10_and_21_strict_with_the_intent_makes_the_root(tmp_path: Path):
    root = tmp_path / "a" / "b"
    with Opened(root, policy("strict")) as opened:
        assert opened.recovery.outcome is EMPTY
    with Opened(root, policy("strict", initialize=False)) as opened:
        assert opened.recovery.outcome is EMPTY


def test_upstream_07_initialising_twice_keeps_the_first_manifest(tmp_path: Path):
    initialize(tmp_path)
    before = (tmp_path / "store.manifest.json").read_bytes()
    initialize(tmp_path)

    assert (tmp_path / "store.manifest.json").read_bytes() == before


def test_upstream_58_a_missing_root_is_made_in_degraded_and_is_empty(tmp_path: Path):
    root = tmp_path / "a" / "b"
    with Opened(root, policy()) as opened:
        assert opened.recovery.outcome is EMPTY
        assert not (root / "store.manifest.json").exists(), "nothing was written yet"
        opened.write(1)
        assert (root / "store.manifest.json").exists()


def test_a_root_that_was_begun_in_degraded_opens_in_strict(tmp_path: Path):
    with Opened(tmp_path, policy()) as opened:
        opened.write(1)
    with Opened(tmp_path, policy("strict", initialize=False)) as opened:
        assert opened.recovery.value == 1


def test_a_list_that_was_written_and_is_gone_is_not_a_new_one(tmp_path: Path):
    with Opened(tmp_path, policy("strict")) as opened:
        moment = opened.write(1)
    (tmp_path / LIST / snapshot_name(moment)).unlink()
    strict_refuses(tmp_path, SnapshotNotFound, code="snapshot_not_found")

    with Opened(tmp_path, policy()) as opened:
        assert opened.recovery.outcome is FALLBACK
        assert isinstance(opened.recovery.failure, SnapshotNotFound)
    with Opened(tmp_path, policy("strict"), entity_id="another") as opened:
        assert opened.recovery.outcome is EMPTY


def test_a_held_root_fails_strict_and_is_memory_only_in_degraded(tmp_path: Path):
    with Opened(tmp_path, policy("strict")) as holder:
        holder.write(1)
        before = tree(tmp_path)
        with pytest.raises(StoreLocked):
            Opened(tmp_path, policy("strict"))
        with Opened(tmp_path, policy()) as other:
            assert other.recovery.outcome is FALLBACK
            assert isinstance(other.recovery.failure, StoreLocked)
            with pytest.raises(StoreLocked):
                other.write(2)
        assert tree(tmp_path) == before


def test_a_root_of_another_store_is_refused_in_strict_and_never_written_in_degraded(tmp_path: Path):
    with Opened(tmp_path, replace(policy("strict"), store_id="one")) as opened:
        opened.write(1)
    before = tree(tmp_path)
    with pytest.raises(StoreMismatch):
        Opened(tmp_path, replace(policy("strict"), store_id="two"))
    with Opened(tmp_path, replace(policy(), store_id="two")) as opened:
        assert isinstance(opened.recovery.failure, StoreMismatch)
        with pytest.raises(StoreLocked):
            opened.write(2)
    assert tree(tmp_path) == before
    with Opened(tmp_path, replace(policy("strict"), store_id="one")) as opened:
        assert opened.recovery.value == 1


def test_a_damaged_manifest_fails_strict_even_with_the_intent_and_stays_as_it_is(tmp_path: Path):
    with Opened(tmp_path, policy()) as opened:
        opened.write(1)
    manifest = tmp_path / "store.manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-30])
    damaged = manifest.read_bytes()
    for initialize_ in (True, False):
        with pytest.raises(Corrupt) as refused:
            Opened(tmp_path, policy("strict", initialize=initialize_))
        assert refused.value.code == "manifest_invalid"
    with Opened(tmp_path, policy()) as opened:
        assert opened.recovery.value == 1
        assert opened.events.of(EventName.MANIFEST_UNUSABLE)
        opened.write(2)
    assert manifest.read_bytes() == damaged


@pytest.mark.parametrize("entity_id", ["../escape", "/tmp/escape", "nested/path", "%2e%2e%2fescape", "..\\escape"])
def test_upstream_37_and_38_a_bad_id_is_refused_by_every_method(tmp_path: Path, entity_id: str):
    (tmp_path / "escape").write_text("a sentinel")
    (tmp_path / "root").mkdir()
    with Opened(tmp_path / "root", policy()) as opened:
        for call in (
            lambda: opened.writer.recover(entity_id, codec=CODEC, decode=decode_number, load_older=False),
            lambda: opened.writer.forget(entity_id),
            lambda: opened.store.snapshots(entity_id),
            lambda: opened.store.read(entity_id, 1),
            lambda: opened.store.publish(entity_id, 1, [b"x"]),
            lambda: opened.store.remove(entity_id, 1),
            lambda: opened.store.quarantine(entity_id, 1),
        ):
            with pytest.raises(InvalidEntityId):
                call()
    assert (tmp_path / "escape").read_text() == "a sentinel"


async def test_health_after_a_start_is_that_of_the_table(tmp_path: Path):
    root_with(tmp_path, TORN)
    strict = make_root(tmp_path, policy("strict"))
    await strict.open()
    with pytest.raises(NoLoadableSnapshot):
        await strict.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: b"")
    health = strict.observe().health.as_document()
    assert (health["state"], health["degraded"], health["last_recovery_outcome"]) == (
        "failed",
        True,
        "strict_init_failure",
    )
    assert health["last_error"]["code"] == "strict_initialization_failure"
    await strict.close()

    events = Events()
    degraded = make_root(tmp_path, events=events)
    await degraded.open()
    opened = await degraded.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: number(1))
    health = opened.checkpoints.health.value.as_document()
    assert (health["state"], health["last_recovery_outcome"]) == ("degraded", "degraded_fallback")
    assert health["last_error"]["code"] == "startup_load_failure"
    assert EventName.DEGRADED_TRANSITION in events.names
    await degraded.close()


async def test_upstream_46_health_after_only_encrypted_artefacts_names_them(tmp_path: Path):
    root_with(tmp_path, LEGACY)
    for mode, state in (("strict", "failed"), ("degraded", "degraded")):
        root = make_root(tmp_path, policy(mode))
        await root.open()
        try:
            await root.open_list(LIST, codec=CODEC, decode=decode_number, capture=lambda: lambda: b"")
        except LegacyArtifact:
            assert mode == "strict"
        health = root.observe().health.as_document()
        assert health["state"] == state
        assert health["last_recovery_outcome"] == "unsupported_legacy_encrypted_artifact"
        assert health["last_error"]["code"] == "unsupported_legacy_encrypted_artifact"
        await root.close()
