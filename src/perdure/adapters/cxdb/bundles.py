"""Registry bundles as servers take them: documents of one form, known by the id inside, whatever the address says.

Any other document is kept as a blob, and a bundle that declares nothing says which: it comes back byte for byte.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from perdure.errors import Invalid

_MEMBER: Final = "perdure_document"  # members that servers do not know are kept and mean nothing to them
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def is_bundle(bundle_id: str, document: bytes) -> bool:
    """Whether a document is a bundle of this id, to be published as it is. Raises ``Invalid`` for what is no JSON."""
    value = _parse(document)
    if value is None:
        raise Invalid(f"bundle {bundle_id} is no JSON document in UTF-8; expected one, as in {{}}")
    found = value[0]
    return (
        isinstance(found, dict)
        and found.get("bundle_id") == bundle_id
        and isinstance(found.get("registry_version"), int)
        and _MEMBER not in found
    )


def bundle_of(bundle_id: str, digest: str) -> bytes:
    """A bundle that says which blob the document of this id is."""
    bundle = {"bundle_id": bundle_id, "registry_version": 1, "types": {}, "enums": {}, _MEMBER: digest}
    return msgspec.json.encode(bundle)


def digest_in(bundle: bytes) -> str | None:
    """Which blob a bundle stands for; None for one that stands for itself."""
    value = _parse(bundle)
    digest = value[0].get(_MEMBER) if value is not None and isinstance(value[0], dict) else None
    return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None


def _parse(document: bytes) -> tuple[Any] | None:
    try:
        return (msgspec.json.decode(document),)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
