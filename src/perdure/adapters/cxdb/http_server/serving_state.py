"""What the routes of one server share: its store, its profile, its time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from perdure.adapters.cxdb.http_server.answers import INVALID, HttpError, HttpRequest
from perdure.adapters.cxdb.http_server.limits import REQUEST_TIMEOUT_S
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.container import Space
from perdure.domain.turn import parse_id
from perdure.errors import Invalid, TimedOut
from perdure.ports.environment import Clock
from perdure.ports.turns import TurnStore

_Choice = TypeVar("_Choice", bound=str)


class Deadline:
    """How long a request may still take."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds that are left. Raises ``TimedOut`` when there are none."""
        left = self._end - self._clock.monotonic()
        if left <= 0:
            raise TimedOut("the request took too long; what it changed before is changed, ask again")
        return left


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The store that is served, and how."""

    store: TurnStore
    space: Space
    clock: Clock
    profile: Profile = Profile.IMPROVED
    timeout_s: float = REQUEST_TIMEOUT_S

    @property
    def is_strict(self) -> bool:
        """Whether answers are as those of other servers."""
        return self.profile is Profile.STRICT

    def deadline(self) -> Deadline:
        """The time of a request that begins now."""
        return Deadline(self.clock, self.timeout_s)

    def now_ms(self) -> int:
        """The time of day, in milliseconds since 1970."""
        return int(self.clock.now().timestamp() * 1_000)

    def path_id(self, text: str, *, what: str) -> str:
        """The id in a path. An error for anything but an unsigned integer of 64 bits."""
        try:
            return str(parse_id(text, what=what))
        except Invalid as exc:
            raise HttpError(INVALID, "invalid id" if self.is_strict else exc.message) from exc

    def ids_as_numbers(self, request: HttpRequest) -> bool:
        """Whether ids are numbers in an answer: as the request says, else as the profile does."""
        values = ("number", "string") if self.is_strict else ("string", "number")
        return self.choice(request, "u64_format", values) == "number"

    def choice(self, request: HttpRequest, name: str, values: tuple[_Choice, ...]) -> _Choice:
        """A parameter that has one of a few values, of which the first is the default."""
        value = request.query.get(name)
        if value is None:
            return values[0]
        for allowed in values:
            if value == allowed:
                return allowed
        if self.is_strict:
            return values[0]
        raise HttpError(INVALID, f"{name} is {ascii(value)[:80]}; expected one of {', '.join(values)}")

    def flag(self, request: HttpRequest, name: str, *, default: bool = False) -> bool:
        """A parameter that is on for ``1`` only."""
        value = request.query.get(name)
        if value is None:
            return default
        if value not in ("0", "1") and not self.is_strict:
            raise HttpError(INVALID, f"{name} is {ascii(value)[:80]}; expected 0 or 1")
        return value == "1"

    def page_size(self, request: HttpRequest, *, default: int, most: int) -> int:
        """The limit of a page; strict servers take any, and here never get more than ``most``."""
        text = request.query.get("limit")
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None  # noqa: PLR2004 - u32
        if self.is_strict:
            return default if number is None or number >= 2**32 else min(number, most)
        if number is None or number > most:
            raise HttpError(INVALID, f"limit is {ascii(text)[:80]}; expected 0 to {most}")
        return number


def shown_id(value: str, *, as_number: bool) -> str | int:
    """An id in JSON: text, which every reader can hold, or a number."""
    return int(value) if as_number else value


def wire_depth(depth: int) -> int:
    """A depth as the protocol counts: the first turn is at 0, and so is the head of what is empty."""
    return max(0, depth - 1)
