"""CXDB: a server of conversations, as a backend of turns."""

from __future__ import annotations

from pathlib import Path

from perdure.adapters.cxdb.backend import CxdbAddress, CxdbBackend
from perdure.adapters.cxdb.endpoint import Tls, parse_endpoint
from perdure.adapters.cxdb.http import HttpAddress
from perdure.adapters.cxdb.turns import TurnSettings
from perdure.compose.backends import Lent
from perdure.compose.documents import required_text, secret, text
from perdure.domain.container import PROJECT_DEFAULT, make_space
from perdure.domain.kinds import Kind
from perdure.ports.backend import Backend, BackendRequest, BackendSpec, ConfigField


def spec(lent: Lent) -> BackendSpec:
    """The backend ``cxdb``."""
    del lent
    return BackendSpec(
        name="cxdb",
        lab_only=False,
        kinds=frozenset({Kind.TURNS}),
        copies=False,
        config=(
            ConfigField(name="address", required=True, about="host:port of the binary protocol"),
            ConfigField(name="tenant", required=True, about="whose server it is; it knows no tenants"),
            ConfigField(name="project", about="which of the tenant's projects; default if left out"),
            ConfigField(name="http", about="the HTTP address: for older pages, bundles and lists"),
            ConfigField(name="token", type="secret", about="goes with every HTTP request"),
            ConfigField(name="tls", type="flag", about="speak TLS, to a proxy in front of the server"),
            ConfigField(name="ca_file", about="who signed the certificate; left out: whom the system trusts"),
            ConfigField(name="cert_file", about="the client's own certificate"),
            ConfigField(name="key_file", about="belongs to cert_file"),
            ConfigField(name="server_name", about="what the certificate names, if not the address"),
            ConfigField(name="require_tls", type="flag", about="false: plain text to another machine is fine"),
            ConfigField(
                name="keys",
                about="durable (default): keys must be in payloads; memory: else known to this process only",
                choices=("durable", "memory"),
            ),
        ),
        open=_start,
        cost_notes="what the server costs; it keeps everything for ever",
    )


async def _start(request: BackendRequest) -> Backend:
    token = await secret(request, "token")
    require_tls = bool(request.config.get("require_tls", True))
    tls = _tls(request)
    http = text(request, "http")
    return CxdbBackend(
        CxdbAddress(
            binary=parse_endpoint(required_text(request, "address"), tls=tls, require_tls=require_tls),
            http=None if http is None else HttpAddress(base_url=http, tls=tls, require_tls=require_tls),
            token=token,
        ),
        space=make_space(
            tenant=required_text(request, "tenant"),
            mode=request.mode,
            env=request.env,
            project=text(request, "project") or PROJECT_DEFAULT,
        ),
        clock=request.environment.clock,
        redact=request.secrets.redact,
        turns=TurnSettings(keys="memory" if text(request, "keys") == "memory" else "durable"),
    )


def _tls(request: BackendRequest) -> Tls | None:
    if not request.config.get("tls", False):
        return None
    ca_file, cert_file, key_file = (text(request, name) for name in ("ca_file", "cert_file", "key_file"))
    return Tls(
        ca_file=None if ca_file is None else Path(ca_file),
        cert_file=None if cert_file is None else Path(cert_file),
        key_file=None if key_file is None else Path(key_file),
        server_name=text(request, "server_name"),
    )
