"""What can go wrong with a store of snapshots, by name; each is one of the classes of ``perdure.errors``."""

from __future__ import annotations

from perdure.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    LegacyArtifact,
    LimitExceeded,
    NotFound,
    PersistenceError,
    Refused,
    Unavailable,
)


class InvalidPersistenceMode(Invalid):
    """A mode is ``strict`` or ``degraded`` and nothing else."""

    code = "invalid_persistence_mode"


class InvalidEntityId(Invalid):
    """This id cannot name a directory safely."""

    code = "invalid_entity_id"


class InvalidHostPolicyEnvelope(Invalid):
    """The bounds that the host set contradict themselves, or the policy lies outside of them."""

    code = "invalid_host_policy_envelope"


class FrequencyRefused(Invalid):
    """An update of the checkpoint frequency was refused, and nothing was changed; ``code`` says why."""

    code = "invalid_request"


class PersistenceNotInitialized(Refused):
    """Strict starts on a root without a manifest only if it is told to initialise it."""

    code = "persistence_not_initialized"


class ManifestInvalid(Corrupt):
    """The manifest is there and is not what was written."""

    code = "manifest_invalid"


class ManifestUnsupported(LegacyArtifact):
    """Another release wrote the manifest."""

    code = "manifest_unsupported"


class StoreMismatch(Forbidden):
    """The root belongs to another store."""

    code = "store_id_mismatch"


class StoreLocked(Unavailable):
    """Somebody else holds the root now."""

    code = "store_locked"


class SnapshotCorrupt(Corrupt):
    """The file is not a snapshot that was written whole; ``detail['reason']`` says what is wrong."""

    code = "snapshot_corrupt"


class InvalidEncoding(SnapshotCorrupt):
    """It cannot be read as an envelope."""

    code = "invalid_encoding"


class IntegrityMismatch(SnapshotCorrupt):
    """Its digest is not that of its header and payload."""

    code = "integrity_mismatch"


class UnexpectedCodec(Corrupt):
    """The envelope is whole, and its payload is of another codec."""

    code = "unexpected_codec"


class EntityMismatch(Corrupt):
    """The envelope is whole, and belongs to another list."""

    code = "entity_mismatch"


class SnapshotDecode(Corrupt):
    """The envelope is whole, and its payload cannot be decoded. Whoever decodes payloads raises it."""

    code = "snapshot_decode"


class UnsupportedSchemaVersion(LegacyArtifact):
    """The envelope is of a schema that this release does not read."""

    code = "unsupported_schema_version"


class UnsupportedLegacyEncryptedArtifact(LegacyArtifact):
    """Strict met an encrypted artefact of an older release, which nobody can read without its keys."""

    code = "unsupported_legacy_encrypted_artifact"


class DegradedSkippedLegacyArtifact(LegacyArtifact):
    """Degraded met an encrypted artefact of an older release and went on without it."""

    code = "degraded_skipped_legacy_artifact"


class SnapshotUnreadable(PersistenceError):
    """The operating system does not give the file's bytes."""

    code = "snapshot_unreadable"


class SnapshotNotFound(NotFound):
    """There is no snapshot where one was written before."""

    code = "snapshot_not_found"


class NoLoadableSnapshot(Corrupt):
    """There are snapshots, and none of them can be loaded."""

    code = "no_loadable_snapshot"


class StartupLoad(PersistenceError):
    """The store cannot be read at the start."""

    code = "startup_load"


class NamesExhausted(Conflict):
    """No snapshot can be newer than the newest file there is."""

    code = "snapshot_names_exhausted"


class SnapshotExists(Conflict):
    """Somebody else wrote a file under this name; it was not touched."""

    code = "snapshot_exists"


class CheckpointFailed(PersistenceError):
    """The state was not written; what is on the disk is as old as before."""

    code = "checkpoint_failure"


class BudgetAtCapacity(LimitExceeded):
    """The storage budget is used up."""

    code = "budget_at_capacity"


class SnapshotExceedsBudget(LimitExceeded):
    """One snapshot alone is larger than the whole budget."""

    code = "snapshot_exceeds_budget"
