"""Secrets from the environment of the process and from files."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from perdure.errors import Forbidden, Invalid, LimitExceeded, NotFound
from perdure.ports.secrets import Secret

SECRET_BYTES_MAX: Final = 65_536  # a key or a token; what is larger is not one
REDACTED_CHARS_MIN: Final = 4  # shorter ones stand in ordinary words, and cutting them out would say what they are

_REFERENCE: Final = re.compile(r"secret://(env|file)/([^\x00-\x1f]{1,1024})")
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SystemSecrets:
    """Resolves ``secret://env/NAME`` from ``environ`` and ``secret://file/run/secrets/key`` from ``/run/secrets/key``.

    Who can request an effect chooses the references in it. Where that is not everybody's right, ``env_prefix`` and
    ``directories`` say which may be used: names that begin with the prefix, and files inside the directories (links
    are followed first). ``directories=None`` allows every file that the process may read.
    """

    def __init__(
        self, environ: Mapping[str, str], *, env_prefix: str = "", directories: tuple[Path, ...] | None = None
    ) -> None:
        self._environ = environ
        self._env_prefix = env_prefix
        self._directories = None if directories is None else tuple(path.resolve() for path in directories)
        self._seen: set[str] = set()

    def __repr__(self) -> str:
        return f"SystemSecrets(env_prefix={self._env_prefix!r}, directories={self._directories})"

    async def resolve(self, reference: str) -> Secret:
        """See ``Secrets``. A file's last line break is not part of the secret."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            # What is quoted here may be a secret that somebody took for a reference.
            raise Invalid("a secret_ref is not a reference; expected secret://env/NAME or secret://file/path")
        where, rest = match.groups()
        text = self._from_environ(rest) if where == "env" else await asyncio.to_thread(self._from_file, rest)
        if not text:
            raise NotFound(f"{reference} is empty; put the secret there", reference=reference)
        if len(text) >= REDACTED_CHARS_MIN:
            self._seen.add(text)
        return Secret(text)

    def redact(self, text: str) -> str:
        """See ``Secrets``."""
        for secret in sorted(self._seen, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _from_environ(self, name: str) -> str:
        if _ENV_NAME.fullmatch(name) is None:
            raise Invalid("secret://env/ is followed by the name of an environment variable")
        if not name.startswith(self._env_prefix):
            raise Forbidden(
                f"secret://env/{name} may not be used here; allowed are names that begin with {self._env_prefix}",
                code="secret_not_allowed",
            )
        if name not in self._environ:
            raise NotFound(f"secret://env/{name} leads nowhere: that environment variable is not set")
        return self._environ[name]

    def _from_file(self, name: str) -> str:
        path = (Path("/") / name).resolve()
        if self._directories is not None and not any(path.is_relative_to(directory) for directory in self._directories):
            allowed = ", ".join(map(str, self._directories)) or "none"
            raise Forbidden(
                f"secret://file/{name} may not be used here; allowed directories: {allowed}", code="secret_not_allowed"
            )
        try:
            with path.open("rb") as stream:
                content = stream.read(SECRET_BYTES_MAX + 1)
        except OSError as exc:
            raise NotFound(f"secret://file/{name} cannot be read: {exc.strerror}") from exc
        if len(content) > SECRET_BYTES_MAX:
            raise LimitExceeded(
                f"secret://file/{name} holds more than {SECRET_BYTES_MAX} bytes (secret_bytes_max); is it one?",
                limit="secret_bytes_max",
                allowed=SECRET_BYTES_MAX,
            )
        try:
            return content.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            # The error quotes the bytes, which are the secret: it must not be chained.
            raise Invalid(f"secret://file/{name} is not text in UTF-8") from None
