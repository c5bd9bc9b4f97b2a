"""Amazon S3, and what speaks its protocol: objects only."""

from __future__ import annotations

from perdure.compose.backends import Lent
from perdure.compose.documents import required_text, text
from perdure.compose.object_stores import EXTRA, ONLY_OBJECTS, PREFIX, credentials, kept_alone
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``s3``."""
    del lent
    return BackendSpec(
        name="s3",
        lab_only=False,
        extra=EXTRA,
        kinds=ONLY_OBJECTS,
        config=(
            ConfigField(name="bucket", required=True, about="the bucket, which must be there"),
            ConfigField(name="region", required=True, about="where it is, as in eu-central-1"),
            ConfigField(name="endpoint", about="another service that speaks the protocol"),
            PREFIX,
            ConfigField(name="access_key_id", type="secret", about="left out: the machine's own credentials"),
            ConfigField(name="secret_access_key", type="secret", about="belongs to access_key_id"),
            ConfigField(name="session_token", type="secret", about="of temporary credentials"),
        ),
        open=_start,
        cost_notes="requests and stored bytes; two requests a put, two a get",
    )


async def _start(request: BackendRequest) -> Backend:
    keys = await credentials(request, "access_key_id", "secret_access_key", "session_token")
    return await kept_alone(
        "s3",
        request,
        bucket=required_text(request, "bucket"),
        region=required_text(request, "region"),
        endpoint=text(request, "endpoint"),
        **keys,
    )
