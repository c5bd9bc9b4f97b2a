"""Stores of objects made from arguments: one function for each place where objects may be kept.

What is returned is not open yet. Arguments decide where data goes; of the environment only credentials count, and those
only where none are given, and a proxy. Without credentials the client asks its own chain: variables, the machine.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from perdure.adapters.objectstore.local_files import LocalFiles
from perdure.adapters.objectstore.store import ObstoreObjects, Place
from perdure.domain.ids import check_env, check_mode
from perdure.errors import Invalid
from perdure.ports.environment import Environment
from perdure.ports.secrets import Secret

CONNECT_TIMEOUT_S: Final = 5.0  # an engine that is there answers at once
READ_TIMEOUT_S: Final = 30.0  # without a byte, of an answer that had begun
REQUEST_TIMEOUT_S: Final = 86_400.0  # of all of one request: callers say how long they wait, the client does not know
RETRIES_MAX: Final = 5  # of one request, after what is known to pass; a caller's timeout_s ends them before
RETRY_TIMEOUT_S: Final = 60.0  # after the first attempt none begins anew; well within the life of a signature
PREFIX_CHARS_MAX: Final = 200  # with our own keys (below 400 characters) far below the 1024 of every engine

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_REGION: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACCOUNT: Final = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER: Final = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_LOCAL_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_RETRY: Final[Any] = {
    "max_retries": RETRIES_MAX,
    "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=5), "base": 2},
}


def memory(*, mode: str, env: str, environment: Environment, shared: MemoryStore | None = None) -> ObstoreObjects:
    """Objects in this process, gone with it; with ``shared`` in a memory that several stores use."""
    place = Place(client=MemoryStore() if shared is None else shared, lists_in_order=True)
    return _store(place, mode=mode, env=env, environment=environment)


def local(directory: str | Path, *, mode: str, env: str, environment: Environment) -> ObstoreObjects:
    """Objects in a directory that only its owner may enter, on the disk before a put returns.

    Several processes of one machine may use it at the same time.
    """
    if not str(directory) or "\0" in str(directory):
        raise Invalid("a store of objects needs the path of a directory")
    files = LocalFiles(Path(directory).expanduser().absolute())
    return _store(Place(client=files, lists_in_order=False), mode=mode, env=env, environment=environment)


def s3(
    *,
    bucket: str,
    region: str,
    endpoint: str | None = None,
    prefix: str | None = None,
    access_key_id: Secret | None = None,
    secret_access_key: Secret | None = None,
    session_token: Secret | None = None,
    spool_directory: Path | None = None,
    mode: str,
    env: str,
    environment: Environment,
) -> ObstoreObjects:
    """Objects in a bucket of Amazon S3, or of what speaks its protocol at ``endpoint``. The bucket must be there.

    Let a lifecycle rule of the bucket end uploads that were never completed (AbortIncompleteMultipartUpload).
    """
    _match(bucket, _BUCKET, "a bucket", "3 to 63 of a-z, 0-9, . _ and -")
    _match(region, _REGION, "a region", "a name such as eu-central-1")
    if (access_key_id is None) != (secret_access_key is None):
        raise Invalid("access_key_id and secret_access_key belong together; give both, or none for the chain")
    if session_token is not None and access_key_id is None:
        raise Invalid("a session_token without access_key_id and secret_access_key; give all three")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    address = _endpoint(endpoint, f"https://s3.{region}.{suffix}")
    # All that variables could change unseen is said here, defaults too.
    config: Any = {
        "endpoint": address,
        "aws_endpoint_url_s3": address,
        "region": region,
        "virtual_hosted_style_request": False,
        "skip_signature": False,
        "unsigned_payload": False,
        "s3_express": False,
        "request_payer": False,
    }
    provider = None
    if access_key_id is not None and secret_access_key is not None:
        token = None if session_token is None else session_token.reveal()
        credential = {"access_key_id": access_key_id.reveal(), "secret_access_key": secret_access_key.reveal()}
        provider = _always({**credential, "token": token})
    client = S3Store(
        bucket,
        prefix=_prefix(prefix),
        config=config,
        client_options=_client(address),
        retry_config=_RETRY,
        credential_provider=provider,
    )
    place = Place(client=client, lists_in_order=True, spool_directory=spool_directory)
    return _store(place, mode=mode, env=env, environment=environment)


def azure(
    *,
    account: str,
    container: str,
    account_key: Secret | None = None,
    endpoint: str | None = None,
    prefix: str | None = None,
    spool_directory: Path | None = None,
    mode: str,
    env: str,
    environment: Environment,
) -> ObstoreObjects:
    """Objects in a container of Azure Blob Storage, which must be there."""
    _match(account, _ACCOUNT, "a storage account", "3 to 24 of a-z and 0-9")
    _match(container, _CONTAINER, "a container", "3 to 63 of a-z, 0-9 and single -")
    if account_key is not None:
        _check_base64(account_key)
    address = _endpoint(endpoint, f"https://{account}.blob.core.windows.net")
    config: Any = {
        "account_name": account,
        "endpoint": address,
        "use_emulator": False,
        "use_fabric_endpoint": False,
        "skip_signature": False,
    }
    client = AzureStore(
        container,
        prefix=_prefix(prefix),
        config=config,
        client_options=_client(address),
        retry_config=_RETRY,
        credential_provider=None if account_key is None else _always({"access_key": account_key.reveal()}),
    )
    place = Place(client=client, lists_in_order=True, spool_directory=spool_directory)
    return _store(place, mode=mode, env=env, environment=environment)


def gcs(
    *,
    bucket: str,
    service_account_key: Secret | None = None,
    endpoint: str | None = None,
    prefix: str | None = None,
    spool_directory: Path | None = None,
    mode: str,
    env: str,
    environment: Environment,
) -> ObstoreObjects:
    """Objects in a bucket of Google Cloud Storage, which must be there; ``service_account_key`` is its JSON.

    No emulator keeps this engine's promises, so the contract never ran on it. Nothing here needs a conditional write:
    no key is written twice. What it rests on is that a list shows what was written and not what was deleted.
    """
    _match(bucket, _BUCKET, "a bucket", "3 to 63 of a-z, 0-9, . _ and -")
    if service_account_key is not None:
        _check_json(service_account_key)
    address = _endpoint(endpoint, "https://storage.googleapis.com")
    config: Any = {"base_url": address, "skip_signature": False}
    if service_account_key is not None:
        config["service_account_key"] = service_account_key.reveal()
    client = GCSStore(
        bucket, prefix=_prefix(prefix), config=config, client_options=_client(address), retry_config=_RETRY
    )
    place = Place(client=client, lists_in_order=True, spool_directory=spool_directory)
    return _store(place, mode=mode, env=env, environment=environment)


def _store(place: Place, *, mode: str, env: str, environment: Environment) -> ObstoreObjects:
    return ObstoreObjects(place, mode=check_mode(mode), env=check_env(env), environment=environment)


def _client(address: str) -> Any:
    return {
        "allow_http": address.startswith("http://"),
        "allow_invalid_certificates": False,
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
        "read_timeout": timedelta(seconds=READ_TIMEOUT_S),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
    }


def _always(credential: Mapping[str, Any]) -> Any:
    """What the client asks for credentials: these, whatever variables and files hold beside them."""

    def provide() -> Any:
        return {**credential, "expires_at": None}

    return provide


def _match(value: object, pattern: re.Pattern[str], what: str, expected: str) -> None:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise Invalid(f"{ascii(value)[:80]} is not {what}; expected {expected}")


def _prefix(value: str | None) -> str | None:
    if value is not None and (len(value) > PREFIX_CHARS_MAX or _PREFIX.fullmatch(value) is None):
        raise Invalid(
            f"{ascii(value)[:80]} is not a prefix; expected up to {PREFIX_CHARS_MAX} of A-Z, a-z, 0-9, . _ and - with "
            "single slashes between, as in team/objects"
        )
    return value


def _endpoint(value: str | None, default: str) -> str:
    if value is None:
        return default
    # Not quoted, and no cause: what is wrong with it may be a password.
    if not _is_endpoint(value):
        raise Invalid(
            "the endpoint is no address of an object store; expected https://host[:port][/path], or http:// on this "
            "machine, without a user, a query or a fragment"
        )
    return value.rstrip("/")


def _is_endpoint(value: str) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS)
    return bool(
        secure
        and parts.hostname
        and port != 0
        and not (parts.username or parts.password or parts.query or parts.fragment)
    )


def _check_base64(secret: Secret) -> None:
    try:
        base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("the account key is not base64; copy it again from the storage account") from None


def _check_json(secret: Secret) -> None:
    try:
        found = json.loads(secret.reveal())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid("the service account key is not the JSON that the cloud gave for it")
