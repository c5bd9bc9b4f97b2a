"""The way to Firestore: one channel for each driver, made from nothing but what the driver was told.

The SDK's own client takes its host from the environment (``FIRESTORE_EMULATOR_HOST``) and its project too; so this
speaks the same API, with the SDK's messages and credentials, over a channel of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import google.auth
import grpc  # type: ignore[import-untyped]
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials

from perdure.adapters.firestore import messages
from perdure.adapters.firestore.messages import Message
from perdure.errors import BackendDown, Forbidden, Invalid, TimedOut
from perdure.ports.environment import Clock
from perdure.ports.secrets import Secret

SERVICE: Final = "firestore.googleapis.com:443"
KEEPALIVE_S: Final = 30  # a connection that was dropped without a word is noticed while a request waits on it
RECONNECT_S: Final = 1.0  # the longest that a server that is back goes unnoticed

_SCOPE: Final = "https://www.googleapis.com/auth/datastore"
_API: Final = "/google.firestore.v1.Firestore/"
# What the SDK sends to emulators: they take it for an administrator, whom their access rules do not concern.
_EMULATOR_TOKEN: Final = ("authorization", "Bearer owner")
_OPTIONS: Final = (
    ("grpc.primary_user_agent", "perdure"),
    ("grpc.keepalive_time_ms", KEEPALIVE_S * 1_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", int(RECONNECT_S * 1_000)),
    # A page is bounded by documents and their bodies, not by messages, of which each holds one document.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Trying again is the caller's decision, and drivers that reach the same host share no connection.
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
)
_READY: Final = grpc.ChannelConnectivity.READY
_FAILED: Final = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Deadline:
    """How much is left of the time that a caller can wait, over several requests."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds, more than none; raises ``TimedOut`` at the end. Ask before a request is sent."""
        left_s = self._end - self._clock.monotonic()
        if left_s <= 0:
            raise TimedOut("the time to wait was over before the database was asked; nothing was changed")
        return left_s


class Connection:
    """A channel and the three requests that are made over it. Errors of the requests are gRPC's own."""

    def __init__(self, channel: grpc.aio.Channel, *, database: str, emulator: bool) -> None:
        self._channel = channel
        self._metadata = (("google-cloud-resource-prefix", database), *((_EMULATOR_TOKEN,) if emulator else ()))
        self._database_routing = to_grpc_metadata({"database": database})  # type: ignore[no-untyped-call]
        self._commit = channel.unary_unary(
            f"{_API}Commit",
            request_serializer=messages.CommitRequest.SerializeToString,
            response_deserializer=messages.CommitResponse.FromString,
        )
        self._batch_get = channel.unary_stream(
            f"{_API}BatchGetDocuments",
            request_serializer=messages.BatchGetRequest.SerializeToString,
            response_deserializer=messages.BatchGetResponse.FromString,
        )
        self._run_query = channel.unary_stream(
            f"{_API}RunQuery",
            request_serializer=messages.QueryRequest.SerializeToString,
            response_deserializer=messages.QueryResponse.FromString,
        )

    async def ready(self, deadline: Deadline) -> None:
        """Return when there is a connection; raise ``BackendDown`` or ``TimedOut`` if there is none.

        Whatever it raises, nothing was sent: a request that is made after it and finds nobody may have been.
        """
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(None if state is _READY else deadline.left_s()):
                while state is not _READY:
                    if state is _FAILED:
                        raise BackendDown(
                            "the database cannot be reached, so nothing was sent; is it running, and is this its "
                            "address?"
                        )
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError as exc:
            raise TimedOut("no connection to the database came about in time, so nothing was sent") from exc

    async def commit(self, request: Message, deadline: Deadline) -> Message:
        """Send a commit."""
        metadata = (*self._metadata, self._database_routing)
        return await self._commit(request, timeout=deadline.left_s(), metadata=metadata)

    def batch_get(
        self, request: Message, deadline: Deadline
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Message]]:
        """The answers to a request for documents by name, as they come."""
        return self._answers(self._batch_get, request, self._database_routing, deadline)

    def run_query(
        self, request: Message, deadline: Deadline
    ) -> contextlib.AbstractAsyncContextManager[AsyncIterator[Message]]:
        """The answers to a query, as they come; leaving it early tells the engine to stop."""
        routing = to_grpc_metadata({"parent": request.parent})  # type: ignore[no-untyped-call]
        return self._answers(self._run_query, request, routing, deadline)

    async def close(self) -> None:
        """Let go of the channel; nothing may be under way."""
        await self._channel.close()

    @contextlib.asynccontextmanager
    async def _answers(
        self, call: Callable[..., Any], request: Message, routing: tuple[str, str], deadline: Deadline
    ) -> AsyncIterator[AsyncIterator[Message]]:
        answers = call(request, timeout=deadline.left_s(), metadata=(*self._metadata, routing))
        try:
            yield answers
        finally:
            answers.cancel()  # nothing happens if it has ended by itself


async def connection(*, database: str, endpoint: str | None, credentials: Secret | None) -> Connection:
    """A connection to Google's own service, or to an ``endpoint`` in plaintext. It connects when it is first used."""
    if endpoint is not None:
        # No proxy: it would be taken from the environment, and this is a server nearby.
        channel = grpc.aio.insecure_channel(endpoint, options=[*_OPTIONS, ("grpc.enable_http_proxy", 0)])
        return Connection(channel, database=database, emulator=True)
    plugin = await asyncio.to_thread(authorisation, credentials)  # may read files or ask a metadata server
    channel_credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(plugin)
    )
    channel = grpc.aio.secure_channel(SERVICE, channel_credentials, options=_OPTIONS)
    return Connection(channel, database=database, emulator=False)


def authorisation(credentials: Secret | None) -> AuthMetadataPlugin:
    """What signs each request: with a service account's key, or with the application-default credentials."""
    found = _default_credentials() if credentials is None else _service_account(credentials)
    return AuthMetadataPlugin(found, Request(), default_host=SERVICE.partition(":")[0])  # type: ignore[no-untyped-call]


def _default_credentials() -> Any:
    try:
        found, _project = google.auth.default(scopes=[_SCOPE])
    except GoogleAuthError as exc:
        raise Forbidden(
            "no application-default credentials were found; make them with: gcloud auth application-default login, "
            "or give a service account's key as credentials"
        ) from exc
    return found


def _service_account(credentials: Secret) -> Any:
    try:
        account = Credentials.from_service_account_info(json.loads(credentials.reveal()), scopes=[_SCOPE])  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError, GoogleAuthError):
        # What these errors say may quote the key: they must not be chained.
        raise Invalid(
            "the credentials are not a service account's key; expected the JSON file that Google gives out, whole"
        ) from None
    # Signs its own tokens: no other service has to answer before the first request.
    return account.with_always_use_jwt_access(True)  # noqa: FBT003 - its only argument
