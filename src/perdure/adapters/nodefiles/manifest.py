"""The manifest's file: read without a hold, replaced as a whole."""

from __future__ import annotations

from pathlib import Path

from perdure.adapters.nodefiles.failures import reported, translated
from perdure.adapters.nodefiles.file_operations import FileOps, read_regular, sync_directory, write_new
from perdure.domain.tasklists.failures import ManifestInvalid
from perdure.domain.tasklists.manifest import MANIFEST_BYTES_MAX, Manifest, decode_manifest, encode_manifest
from perdure.domain.tasklists.snapshot_names import MANIFEST_NAME, manifest_temporary_name


def read_manifest(files: FileOps, root: Path) -> Manifest | None:
    """The root's manifest, None if there is none. Raises ``PersistenceError`` where that cannot be known."""
    path = root / MANIFEST_NAME
    with translated("read", path):
        try:
            data = read_regular(files, path, bytes_max=MANIFEST_BYTES_MAX)
        except FileNotFoundError:
            return None
    if data is None:
        raise ManifestInvalid(f"{path} has more bytes than a manifest (manifest_bytes_max); restore it from a backup")
    return decode_manifest(data)


def write_manifest(files: FileOps, root: Path, manifest: Manifest, *, token: str) -> None:
    """Replace the root's manifest; on the disk once it returns. Raises ``PersistenceError``."""
    path = root / MANIFEST_NAME
    temporary = root / manifest_temporary_name(pid=files.process_id(), token=token)
    data = encode_manifest(manifest)
    with translated("write", path):
        try:
            write_new(files, temporary, [data])
            files.rename(temporary, path)
        except BaseException:
            with reported("remove", temporary):
                _remove(files, temporary)
            raise
        sync_directory(files, root)


def _remove(files: FileOps, path: Path) -> None:
    try:
        files.unlink(path)
    except FileNotFoundError:
        return
