"""DynamoDB: Amazon's document database."""

from __future__ import annotations

from perdure.compose.backends import Lent
from perdure.compose.documents import driver_module, opened, required_text, secret, text
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField
from perdure.ports.documents import DocumentDriver

_REGION_DEFAULT = "us-west-2"


def spec(lent: Lent) -> BackendSpec:
    """The backend ``dynamodb``."""
    del lent
    return BackendSpec(
        name="dynamodb",
        lab_only=False,
        extra="dynamodb",
        config=(
            ConfigField(name="table_name", required=True, about="the table; key pk (S), sk (S)"),
            ConfigField(name="region", about=f"the region; {_REGION_DEFAULT} if left out"),
            ConfigField(name="endpoint_url", about="another address than the vendor's, for a private endpoint"),
            ConfigField(name="access_key_id", type="secret", about="else the vendor's own chain of credentials"),
            ConfigField(name="secret_access_key", type="secret", about="goes with access_key_id"),
            ConfigField(name="session_token", type="secret", about="for temporary credentials"),
            ConfigField(name="create_table", type="flag", about="make the table if it is missing"),
        ),
        open=_start,
        cost_notes="on demand: a write unit a KB written, twice that in a transaction; a read unit each 4 KB read",
    )


async def _start(request: BackendRequest) -> Backend:
    driver: DocumentDriver = driver_module("dynamodb", extra="dynamodb").DynamoDbDriver(
        table_name=required_text(request, "table_name"),
        region=text(request, "region") or _REGION_DEFAULT,
        clock=request.environment.clock,
        endpoint_url=text(request, "endpoint_url"),
        access_key_id=await secret(request, "access_key_id"),
        secret_access_key=await secret(request, "secret_access_key"),
        session_token=await secret(request, "session_token"),
        create_table=bool(request.config.get("create_table", False)),
    )
    return await opened(driver, request)
