"""Standard Webhooks: a receiver that has the secret can tell that a call is ours, whole, recent and not a repeat."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import Final

from perdure.errors import Invalid
from perdure.ports.secrets import Secret

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

_PREFIX: Final = "whsec_"
_KEY_BYTES_MIN: Final = 16  # a shorter one can be guessed


def signature_headers(key: Secret, *, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a signed call (scheme v1, HMAC-SHA256 over ``id.timestamp.body``).

    ``key`` is ``whsec_`` and base64. Raises ``Invalid``, which never holds any part of the key.
    """
    seconds = str(int(at.timestamp()))
    signed = f"{message_id}.{seconds}.".encode() + body
    digest = base64.b64encode(hmac.new(_bytes_of(key), signed, hashlib.sha256).digest()).decode()
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: seconds, SIGNATURE_HEADER: f"v1,{digest}"}


def _bytes_of(key: Secret) -> bytes:
    text = key.reveal().strip()
    if not text.startswith(_PREFIX):
        raise Invalid("the signing secret is not whsec_ and base64, as Standard Webhooks has it")
    try:
        raw = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # The cause may quote the text, which is the secret.
        raise Invalid("the signing secret is not base64 after whsec_") from None
    if len(raw) < _KEY_BYTES_MIN:
        raise Invalid(f"the signing secret is shorter than {_KEY_BYTES_MIN} bytes; make a new one")
    return raw
