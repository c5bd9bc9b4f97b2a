"""From the recorded specification of an effect to the request that is sent, secrets put in at the last moment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from perdure.adapters.webhooks.addresses import HOST_REFUSED
from perdure.adapters.webhooks.signature import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    signature_headers,
)
from perdure.domain.canonical import json_bytes
from perdure.ports.environment import Clock
from perdure.ports.relay import Delivery, DeliveryFailed
from perdure.ports.secrets import Secrets

SPEC_INVALID: Final = "SPEC_INVALID"
HEADERS_MAX: Final = 64  # of one request; servers refuse more

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_KEY_HEADERS: Final = ("Idempotency-Key", "X-Idempotency-Key")
# What says how the message is framed, or what we vouch for, is not for the specification to say.
_OURS: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "accept-encoding",
    }
    | {ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER}
    | {name.lower() for name in _KEY_HEADERS}
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]{0,8192}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request that is ready to be sent. Its headers may hold secrets, so it shows none."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


async def prepare(
    delivery: Delivery, *, secrets: Secrets, clock: Clock, user_agent: str, hosts_allowed: frozenset[str] | None
) -> Prepared:
    """The request of a delivery. ``hosts_allowed`` None allows every host.

    Raises ``DeliveryFailed`` (not retryable) for a specification that no attempt can make good, and what resolving
    secrets raises.
    """
    spec = delivery.spec
    url = _url(spec.get("url"), hosts_allowed=hosts_allowed)
    body, content_type = _body(spec.get("body"))
    headers = await _headers(spec.get("headers"), secrets=secrets)
    names = {name.lower() for name in headers}
    if content_type is not None and "content-type" not in names:
        headers["Content-Type"] = content_type
    if "user-agent" not in names:
        headers["User-Agent"] = user_agent
    # What arrives is what is counted: nothing is unpacked, so nothing can unfold beyond the limit.
    headers["Accept-Encoding"] = "identity"
    headers |= dict.fromkeys(_KEY_HEADERS, delivery.idempotency_key)
    headers[ID_HEADER] = delivery.idempotency_key
    reference = spec.get("secret_ref")
    if reference is not None:
        key = await secrets.resolve(_reference(reference))
        headers |= signature_headers(key, message_id=delivery.idempotency_key, at=clock.now(), body=body)
    return Prepared(method=_method(spec.get("method")), url=url, headers=headers, body=body)


def _refusal(what: str, *, code: str = SPEC_INVALID) -> DeliveryFailed:
    return DeliveryFailed(what, code=code, retryable=False)


def _url(value: Any, *, hosts_allowed: frozenset[str] | None) -> httpx.URL:
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, TypeError) as exc:
        raise _refusal("url is not an address") from exc
    if url.scheme not in {"http", "https"} or not url.host:
        raise _refusal("url is not an http or https address")
    if url.userinfo:
        raise _refusal("url holds a user or a password; put them into a header by secret_ref")
    if hosts_allowed is not None and url.host.lower() not in hosts_allowed:
        raise _refusal(f"host {url.host} is not among those that webhooks may go to", code=HOST_REFUSED)
    return url


def _method(value: Any) -> str:
    method = "POST" if value is None else value
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise _refusal(f"method is not one of {', '.join(sorted(_METHODS))}")
    return method.upper()


def _body(value: Any) -> tuple[bytes, str | None]:
    if value is None:
        return b"", None
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    return json_bytes(value), "application/json"


async def _headers(value: Any, *, secrets: Secrets) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _refusal("headers is not an object")
    if len(value) > HEADERS_MAX:
        raise _refusal(f"headers has {len(value)} entries; at most {HEADERS_MAX} (headers_max)")
    headers: dict[str, str] = {}
    for name, content in value.items():
        if _HEADER_NAME.fullmatch(name) is None:
            raise _refusal("headers has a name that HTTP does not allow")
        if name.lower() in _OURS or name.lower() in {known.lower() for known in headers}:
            raise _refusal(f"header {name} is set by the relay, or given twice; leave it out")
        text = await _header_value(name, content, secrets=secrets)
        if _HEADER_VALUE.fullmatch(text) is None:
            raise _refusal(f"header {name} is not printable ASCII of at most 8192 characters")
        headers[name] = text
    return headers


async def _header_value(name: str, content: Any, *, secrets: Secrets) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping) and "secret_ref" in content:
        prefix = content.get("prefix", "")
        if not isinstance(prefix, str) or set(content) - {"secret_ref", "prefix"}:
            raise _refusal(f"header {name} is not text, nor an object of secret_ref and perhaps prefix")
        return prefix + (await secrets.resolve(_reference(content["secret_ref"]))).reveal()
    raise _refusal(f"header {name} is not text, nor an object of secret_ref and perhaps prefix")


def _reference(value: Any) -> str:
    if not isinstance(value, str):
        raise _refusal("secret_ref is not text")
    return value
