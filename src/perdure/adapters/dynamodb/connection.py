"""The vendor's client, made from arguments. The environment and the vendor's files count for credentials only.

Left to itself the client takes its region, its endpoint, a proxy, its retries and more from variables and files, so
that data could end up in a place that nobody configured here.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import boto3.session  # type: ignore[import-untyped]  # ships no types
import botocore.session  # type: ignore[import-untyped]  # ships no types
from botocore.config import Config  # type: ignore[import-untyped]  # ships no types
from botocore.loaders import Loader  # type: ignore[import-untyped]  # ships no types

from perdure.errors import Invalid
from perdure.ports.secrets import Secret

# How the chain finds credentials and trusts certificates: all that may come from outside.
_CHAIN: Final = frozenset(
    {
        "ca_bundle",
        "config_file",
        "credentials_file",
        "ec2_metadata_service_endpoint",
        "ec2_metadata_service_endpoint_mode",
        "ec2_metadata_v1_disabled",
        "imds_use_ipv6",
        "metadata_service_num_attempts",
        "metadata_service_timeout",
        "profile",
        "sts_regional_endpoints",
    }
)
_TRUST: Final = frozenset({"ca_bundle"})

# Megabytes of descriptions of the vendor's services, read once and not once for each client.
_DESCRIPTIONS: Final = Loader()

_NO_SUCCESS: Final = 300

_REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class NotAnAnswer(Exception):
    """What came back is not what the engine sent, or not all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """Where the engine is and how long to wait for it. Without keys the client's own chain finds credentials."""

    region: str
    endpoint_url: str | None = None
    access_key_id: Secret | None = field(default=None, repr=False)
    secret_access_key: Secret | None = field(default=None, repr=False)
    session_token: Secret | None = field(default=None, repr=False)
    connections_max: int
    connect_timeout_s: float
    read_timeout_s: float

    def __post_init__(self) -> None:
        if not _REGION.match(self.region):
            raise Invalid(f"the region is {self.region!r}; expected a name such as eu-central-1")
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise Invalid("access_key_id and secret_access_key belong together; give both, or none for the chain")
        if self.session_token is not None and self.access_key_id is None:
            raise Invalid("a session_token without access_key_id and secret_access_key; give all three")
        if not (0 < self.connect_timeout_s < float("inf") and 0 < self.read_timeout_s < float("inf")):
            raise Invalid("connect_timeout_s and read_timeout_s are seconds, more than 0")
        if self.connections_max < 1:
            raise Invalid(f"{self.connections_max} threads; expected at least 1")


def connect(settings: ConnectionSettings) -> Any:
    """A client. It reads files and may ask other services for credentials, so it blocks."""
    client = boto3.session.Session(botocore_session=_session(settings)).client(
        "dynamodb",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        aws_access_key_id=_text(settings.access_key_id),
        aws_secret_access_key=_text(settings.secret_access_key),
        aws_session_token=_text(settings.session_token),
        config=Config(
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
            max_pool_connections=settings.connections_max,
            tcp_keepalive=True,
            # Who calls the driver retries, and knows what may be repeated.
            retries={"mode": "standard", "total_max_attempts": 1},
            ignore_configured_endpoint_urls=True,
            endpoint_discovery_enabled=False,
            account_id_endpoint_mode="disabled",
            use_dualstack_endpoint=False,
            use_fips_endpoint=False,
            inject_host_prefix=False,
            proxies={},  # None would be those of the environment
        ),
    )
    client.meta.events.register("before-parse.dynamodb", check_answer)
    return client


def check_answer(response_dict: Mapping[str, Any], **_: object) -> None:
    """Raise ``NotAnAnswer`` for a success that is not the engine's.

    The client takes a body that it cannot read for an empty one, which would say "nothing there" to a read and "done"
    to a commit.
    """
    if response_dict["status_code"] >= _NO_SUCCESS:
        return
    headers, body = response_dict["headers"], response_dict["body"]
    checksum = headers.get("x-amz-crc32")
    whole = _is_object(body) if checksum is None else checksum == str(zlib.crc32(body))
    if not whole or "x-amzn-requestid" not in headers:
        raise NotAnAnswer


def _session(settings: ConnectionSettings) -> Any:
    allowed = _CHAIN if settings.access_key_id is None else _TRUST
    variables = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in botocore.session.Session.SESSION_VARIABLES.items()
        if name not in allowed
    }
    # For the chain: some of its sources are asked in a region.
    variables["region"] = (None, None, settings.region, None)
    session = botocore.session.Session(session_vars=variables)
    session.register_component("data_loader", _DESCRIPTIONS)
    return session


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except ValueError:
        return False


def _check_endpoint(url: str) -> None:
    # Not quoted, and no cause: what is wrong with it may be a password.
    if not _is_endpoint(url):
        raise Invalid("the endpoint_url is not of the form https://host or https://host:port, without anything else")


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    bare = "@" not in url and not parts.query and not parts.fragment and parts.path in {"", "/"}
    return named and bare and parts.scheme in {"http", "https"}


def _text(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
