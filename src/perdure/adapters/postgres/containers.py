"""Containers as rows name them: by a hash of the whole name, which keeps keys narrow however long a name is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

from perdure.adapters.postgres.session import Row
from perdure.domain.container import Container, Space, user_of
from perdure.domain.ids import check_env, check_mode, tenant_uuid
from perdure.domain.kinds import Kind
from perdure.errors import Corrupt, Invalid

_HASH_BYTES: Final = 16  # 128 bits: enough that two names of one tenant never meet


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a container is: the keys it is found by, and the name that is kept with it, as JSON."""

    tenant: str
    tenant_id: UUID
    container_id: UUID
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfPlane:
    """The (mode, env) that a database serves. It is no part of any key in it, so nothing of another may be asked."""

    mode: str
    env: str

    def check(self, mode: str, env: str) -> None:
        """Raise ``Invalid`` unless this is the plane's own."""
        if (mode, env) != (self.mode, self.env):
            raise Invalid(f"this database serves mode {self.mode!r} and env {self.env!r}, not {mode!r} and {env!r}")

    def place(self, container: Container) -> Place:
        """Where a container is. Raises ``Invalid`` for one of another plane."""
        space = container.space
        self.check(space.mode, space.env)
        name = msgspec.json.encode([container.kind, space.project, space.surface, space.app, *container.name])
        container_id = UUID(bytes=hashlib.sha256(name).digest()[:_HASH_BYTES])
        kept = {"id": container_id, "kind": container.kind, "container": name.decode(), "user": user_of(container)}
        return Place(
            tenant=space.tenant,
            tenant_id=tenant_uuid(space.tenant),
            container_id=container_id,
            name=msgspec.json.encode(kept).decode(),
        )

    def place_of_space(self, space: Space) -> dict[str, Any]:
        """A space as rows name it, and its name as JSON: what statements about spaces take. ``Invalid`` as above."""
        self.check(space.mode, space.env)
        name = msgspec.json.encode([space.project, space.surface, space.app])
        return {
            "tenant": space.tenant,
            "tenant_id": tenant_uuid(space.tenant),
            "space_id": UUID(bytes=hashlib.sha256(name).digest()[:_HASH_BYTES]),
            "name": name.decode(),
        }

    def container(self, tenant: str, name: str) -> Container:
        """The container of a name that was kept. Raises ``Corrupt`` for what is none."""
        try:
            kind, project, surface, app, *parts = msgspec.json.decode(name, type=list[str | None])
            space = Space(
                tenant=tenant,
                mode=check_mode(self.mode),
                env=check_env(self.env),
                project=msgspec.convert(project, str),
                surface=surface,
                app=app,
            )
            return Container(
                kind=msgspec.convert(kind, Kind), space=space, name=msgspec.convert(parts, tuple[str, ...])
            )
        except (msgspec.MsgspecError, ValueError) as exc:
            raise Corrupt("a row names no container; was it written by something else?") from exc

    def listed(self, tenant: str, rows: Sequence[Row], *, limit: int) -> tuple[Sequence[Container], str | None]:
        """A page of containers, and the mark of the next if there is a row more than the page holds."""
        found = [self.container(tenant, row["container"]) for row in rows[:limit]]
        return found, rows[limit - 1]["container_id"].hex if len(rows) > limit else None


def read_mark(mark: str | None) -> UUID | None:
    """The place after which a listing goes on. Raises ``Invalid`` for what no listing gave."""
    try:
        return None if mark is None else UUID(hex=mark)
    except ValueError as exc:
        raise Invalid("this is not a mark of this list; hand back the one that came with the page before") from exc
