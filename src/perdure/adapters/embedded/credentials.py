"""The roles' passwords: made here, kept in one 0600 file that libpq reads, never in a DSN, a log or an argument."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from perdure.adapters.embedded.failures import from_os_error
from perdure.errors import Corrupt, Forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perdure.adapters.embedded.layout import Layout

SUPERUSER: Final = "postgres"
"""The cluster's bootstrap superuser: used to prepare, dump and restore, by nothing else."""

_ITERATIONS: Final = 4096  # PostgreSQL's own; the passwords are random, so more would only slow each connection
_PASSWORD_BYTES: Final = 32


def read_passwords(layout: Layout) -> dict[str, str]:
    """Every role's password; empty when there is no file yet.

    Raises ``Forbidden`` when others can read the file (libpq would ignore it) and ``Corrupt`` when it is not ours.
    """
    try:
        mode = layout.passwords.stat().st_mode
        text = layout.passwords.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise _unreadable(layout) from exc
    if stat.S_IMODE(mode) & 0o077:
        raise Forbidden(
            f"{layout.passwords} can be read by others, so libpq would ignore it; run: chmod 600 '{layout.passwords}'",
            code="passfile_mode",
            path=str(layout.passwords),
        )
    passwords: dict[str, str] = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) != 5:  # noqa: PLR2004  # host:port:database:user:password
            raise _unreadable(layout)
        passwords[fields[3]] = fields[4]
    return passwords


def ensure_passwords(layout: Layout, roles: Iterable[str]) -> dict[str, str]:
    """Every role's password, made and written down first for those that had none."""
    passwords = read_passwords(layout)
    missing = [role for role in dict.fromkeys(roles) if role not in passwords]
    if missing:
        passwords.update((role, secrets.token_urlsafe(_PASSWORD_BYTES)) for role in missing)
        # The port changes from start to start and the database is one of two, so both are wildcards.
        lines = (f"127.0.0.1:*:*:{role}:{password}\n" for role, password in passwords.items())
        layout.write(layout.passwords, "".join(lines).encode())
    return passwords


def scram_verifier(password: str, *, salt: bytes | None = None) -> str:
    """What PostgreSQL stores for ``password`` (RFC 5803), so that the password itself never crosses to the server.

    ``password`` must be ASCII, which needs no normalisation.
    """
    salt = os.urandom(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored, server, salted_with = (base64.b64encode(part).decode() for part in (stored_key, server_key, salt))
    return f"SCRAM-SHA-256${_ITERATIONS}:{salted_with}${stored}:{server}"


def _unreadable(layout: Layout) -> Corrupt:
    try:
        layout.passwords.open("rb").close()
    except OSError as exc:
        raise from_os_error(exc, doing="read the passwords in", path=layout.passwords) from exc
    return Corrupt(
        f"{layout.passwords} is not a file that Perdure wrote; move it away while the server is stopped and start "
        "again: new passwords are then made",
        code="passfile_corrupt",
        path=str(layout.passwords),
    )
