"""Ids of what snapshots are kept of: each is the name of one directory, on any system."""

from __future__ import annotations

import re
from typing import Final

from perdure.domain.tasklists.failures import InvalidEntityId

ENTITY_ID_BYTES_MAX: Final = (
    200  # the name of a directory has 255 bytes at most; the rest is for backups that add to it
)

_RESERVED: Final = frozenset({"store.manifest.json", "quarantine"})
# Names that mean devices on Windows, whatever extension follows: a root may be copied there.
_DEVICE: Final = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")
_FORBIDDEN: Final = re.compile(r'[/\\%:*?"<>|]')
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def check_entity_id(entity_id: object) -> str:
    """The id, if it can name a directory below the root and nothing else. Raises ``InvalidEntityId``.

    Refused are an empty one, separators of paths, ``%`` (so that no decoding makes a separator), characters that some
    system does not allow, control characters, a dot in front (``.``, ``..``, hidden files), a dot or space at either
    end, names of devices, the store's own names, and more than ``ENTITY_ID_BYTES_MAX`` bytes.
    """
    if not isinstance(entity_id, str):
        raise _invalid(repr(type(entity_id).__name__), "it is not text")
    reason = _reason(entity_id)
    if reason is not None:
        raise _invalid(entity_id, reason)
    return entity_id


def _reason(entity_id: str) -> str | None:
    checks = {
        "it is empty": not entity_id,
        "it holds a control character, or half of a character": _CONTROL.search(entity_id)
        or _SURROGATE.search(entity_id),
        'it holds one of / \\ % : * ? " < > |': _FORBIDDEN.search(entity_id),
        "it begins or ends with a dot": entity_id.startswith(".") or entity_id.endswith("."),
        "it begins or ends with a space": entity_id != entity_id.strip(),
        "it is a reserved name": entity_id.casefold() in _RESERVED or _DEVICE.fullmatch(entity_id),
        f"it has more than {ENTITY_ID_BYTES_MAX} bytes (entity_id_bytes_max)": len(entity_id.encode(errors="replace"))
        > ENTITY_ID_BYTES_MAX,
    }
    return next((reason for reason, is_so in checks.items() if is_so), None)


def _invalid(entity_id: str, reason: str) -> InvalidEntityId:
    shown = ascii(entity_id)[:80]
    return InvalidEntityId(
        f"{shown} cannot be the id of a list: {reason}; use letters, digits, - and _", entity_id=shown, reason=reason
    )
