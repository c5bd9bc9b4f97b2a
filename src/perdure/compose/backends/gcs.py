"""Google Cloud Storage: objects only."""

from __future__ import annotations

from perdure.compose.backends import Lent
from perdure.compose.documents import required_text, text
from perdure.compose.object_stores import EXTRA, ONLY_OBJECTS, PREFIX, credentials, kept_alone
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``gcs``."""
    del lent
    return BackendSpec(
        name="gcs",
        lab_only=False,
        extra=EXTRA,
        kinds=ONLY_OBJECTS,
        config=(
            ConfigField(name="bucket", required=True, about="the bucket, which must be there"),
            ConfigField(name="endpoint", about="another address of the service"),
            PREFIX,
            ConfigField(name="service_account_key", type="secret", about="left out: the machine's own credentials"),
        ),
        open=_start,
        cost_notes="requests and stored bytes; two requests a put, two a get",
    )


async def _start(request: BackendRequest) -> Backend:
    keys = await credentials(request, "service_account_key")
    return await kept_alone(
        "gcs", request, bucket=required_text(request, "bucket"), endpoint=text(request, "endpoint"), **keys
    )
