"""Where something is kept: the space that isolates it and the container in it. Every stored key is made of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from perdure.domain.ids import Mode, check_env, check_mode, check_tenant, check_text
from perdure.domain.kinds import Kind
from perdure.errors import Invalid

PROJECT_DEFAULT: Final = "default"
PART_CHARS_MAX: Final = 128  # project, surface, app, user and session ids: longer than any platform's own
STREAM_CHARS_MAX: Final = 512  # names of streams are paths in practice

SESSIONS: Final = "session"
BOARDS: Final = "board"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What isolates. Nothing in one space is found from another, and every part is in every key."""

    tenant: str
    mode: Mode
    env: str
    project: str
    surface: str | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One stream, table, session or set of blackboards: what is ordered, and atomic, in itself.

    ``name`` is ``(stream,)``, ``(table,)``, ``("session", user, session)`` or ``("board", scope, *owner)``; a part is
    any text.
    """

    kind: Kind
    space: Space
    name: tuple[str, ...]


def make_space(
    *, tenant: str, mode: str, env: str, project: str, surface: str | None = None, app: str | None = None
) -> Space:
    """A space whose every part was checked. Raises ``Invalid``, ``LimitExceeded``."""
    return Space(
        tenant=check_tenant(tenant),
        mode=check_mode(mode),
        env=check_env(env),
        project=check_part(project, what="a project"),
        surface=None if surface is None else check_part(surface, what="a surface"),
        app=None if app is None else check_part(app, what="an app"),
    )


def check_part(value: str, *, what: str) -> str:
    """An id in a scope (project, surface, app, user, session): one line of at most ``PART_CHARS_MAX`` characters.

    Any character of one line is fine, separators of keys and paths included.
    """
    return check_text(value, what=what, limit="part_chars_max", chars_max=PART_CHARS_MAX, blank_edges_allowed=True)


def check_stream_name(value: str) -> str:
    """The name of a stream: one line of at most ``STREAM_CHARS_MAX`` characters, slashes and all."""
    return check_text(
        value, what="a stream", limit="stream_chars_max", chars_max=STREAM_CHARS_MAX, blank_edges_allowed=True
    )


def stream_container(space: Space, stream: str) -> Container:
    """The container of a stream. Raises ``Invalid``, ``LimitExceeded``."""
    return Container(kind=Kind.STREAMS, space=space, name=(check_stream_name(stream),))


def session_container(space: Space, *, user: str, session: str) -> Container:
    """The container of a session's messages. Raises ``Invalid``, ``LimitExceeded``."""
    name = (SESSIONS, check_part(user, what="a user"), check_part(session, what="a session"))
    return Container(kind=Kind.MEMORY, space=space, name=name)


def board_container(space: Space, *, user: str | None = None, session: str | None = None) -> Container:
    """The container of blackboards: the project's; with ``user`` that user's; with both that session's.

    Raises ``Invalid`` for a session without its user.
    """
    if user is None:
        if session is not None:
            raise Invalid("a session's blackboards belong to a user; pass user= as well")
        name: tuple[str, ...] = (BOARDS, "project")
    elif session is None:
        name = (BOARDS, "user", check_part(user, what="a user"))
    else:
        name = (BOARDS, "session", check_part(user, what="a user"), check_part(session, what="a session"))
    return Container(kind=Kind.MEMORY, space=space, name=name)


def user_of(container: Container) -> str | None:
    """The user whose memory a container is; None for what belongs to no user."""
    if container.kind is not Kind.MEMORY:
        return None
    match container.name:
        case ("session", user, _) | ("board", "user", user) | ("board", "session", user, _):
            return user
        case _:
            return None


def check_place(container: Container, *, mode: str, env: str) -> None:
    """Raise ``Invalid`` unless a store of this (mode, env) may keep the container: each pair has stores of its own."""
    space = container.space
    if (space.mode, space.env) != (mode, env):
        raise Invalid(
            f"{container.kind} of ({space.mode}, {space.env}) in a store of ({mode}, {env}); each has stores of its own"
        )
