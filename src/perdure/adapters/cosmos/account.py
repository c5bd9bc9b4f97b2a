"""How the vendor's client is made: with nothing of its own that retries, guesses, or speaks."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from azure.core.pipeline.transport import AioHttpTransport
from azure.cosmos.aio import CosmosClient
from azure.cosmos.documents import ConnectionPolicy

from perdure.errors import Invalid
from perdure.ports.secrets import Secret

Consistency: TypeAlias = Literal["session", "strong"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_NAME: Final = re.compile(r"[^/\\#?\x00-\x1f]{1,255}\Z")  # the engine's rule for databases and containers
_LEVELS: Final[dict[Consistency, str]] = {"session": "Session", "strong": "Strong"}
# For the vendor's log of requests: it hides the key and bodies, but shows partitions, which say whose data it is.
_SILENT: Final = logging.getLogger(f"{__name__}.requests")
_SILENT.setLevel(logging.CRITICAL + 1)


def check_endpoint(endpoint: str) -> str:
    """The endpoint, if it is one. Plain http is for an emulator on this machine: the key signs, but hides nothing."""
    parts = urlsplit(endpoint)
    if not parts.hostname or parts.username or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise Invalid("the endpoint is not an account's address; expected one like https://ACCOUNT.documents.azure.com")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise Invalid("the endpoint is not https; only an emulator on this machine's loopback may be without")
    return endpoint


def check_name(what: str, name: str) -> str:
    """The name of a database or container, if it can be one: it becomes a part of addresses."""
    if not _NAME.match(name):
        raise Invalid(f"the name of the {what} is not one; expected 1 to 255 characters and none of / \\ # ?")
    return name


def make_client(endpoint: str, key: Secret, consistency: Consistency) -> CosmosClient:
    """A client that sends every request once, to this endpoint, and logs none of them.

    The endpoint is the account's own, which leads to the region that takes writes; other regions are never asked. The
    client would send a write again after its answer was lost if it knew of a second region, and then report a conflict
    with itself.
    """
    _check_key(key)
    policy = ConnectionPolicy()
    # `retry_total=0` is not enough: it takes 0 for "not said" where a request was throttled, and sends it 9 times more.
    policy.RetryOptions = type(policy.RetryOptions)(max_retry_attempt_count=0)
    return CosmosClient(
        endpoint,
        key.reveal(),
        # Always said, never left to the account's default: an account that cannot promise it refuses the request.
        consistency_level=_LEVELS[consistency],
        connection_policy=policy,
        enable_endpoint_discovery=False,
        # Left to itself it goes through any proxy that the environment names.
        transport=AioHttpTransport(use_env_settings=False),
        retry_total=0,
        retry_connect=0,
        retry_read=0,
        retry_status=0,
        retry_write=0,
        no_response_on_write=True,
        # Without it every character beyond ASCII takes six bytes or twelve, and the engine counts them.
        enable_compact_utf8_item_writes=True,
        logger=_SILENT,
        logging_enable=False,
        enable_diagnostics_logging=False,
    )


def _check_key(key: Secret) -> None:
    try:
        decoded = base64.b64decode(key.reveal(), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not decoded:
        raise Invalid("the key is not an account's key, which is base64; look at what its reference leads to")
