"""What replicas of a task list keep and exchange: facts, each under a key of its own, put once and never changed.

A list is a flat set of facts. Two replicas that add facts at the same time never touch the same key, so merging is
union, and a removal names exactly the facts that its author had seen. What people see is resolved from the facts:

* ``m task dot``: the task is a member of the list. Removing a task removes the dots seen, so that adding it again at
  the same time wins (an observed-remove set, after Shapiro et al., "A comprehensive study of CRDTs", 2011).
* ``f task field dot``: a value of a field. Writing puts an entry and removes those seen; the greatest dot counts.
* ``c task time agent`` and ``d task time agent``: a claim, a completion. Never removed; the smallest counts.
* ``t task tag dot``: a tag, as membership.

A dot is ``(lamport, writer)``: the logical time of the write (L. Lamport, "Time, clocks", 1978) and who wrote it. Dots
are compared as pairs of numbers and by nothing else, so every replica resolves in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

SEPARATOR: Final = "\x1f"  # no id, tag or agent may hold it: they are lines of text
LIST: Final = ""  # stands for the list itself where a task's id would

MEMBER: Final = "m"
FIELD: Final = "f"
CLAIM: Final = "c"
DONE: Final = "d"
TAG: Final = "t"

_KINDS_OF_PARTS: Final = {MEMBER: 2, FIELD: 3, CLAIM: 3, DONE: 3, TAG: 3}
_LAMPORT_DIGITS: Final = 16
_WRITER_DIGITS: Final = 14  # hexadecimal: 53 bits
_TIME_DIGITS: Final = 16
_DOT: Final = re.compile(rf"([0-9a-f]{{{_LAMPORT_DIGITS}}})\.([0-9a-f]{{{_WRITER_DIGITS}}})")

LAMPORT_MAX: Final = 2**63 - 1  # a peer that says more is wrong or wants to end the counting


class Dot(NamedTuple):
    """Who wrote, and when by the logical clock; a total order."""

    lamport: int
    writer: int


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact, taken apart. ``name`` is the field, the tag or the agent; ``dot`` or ``time_ms`` as its kind has it."""

    kind: str
    task_id: str
    name: str
    dot: Dot | None
    time_ms: int | None


def member_key(task_id: str, dot: Dot) -> str:
    """The key of a membership."""
    return SEPARATOR.join((MEMBER, task_id, _dot_text(dot)))


def field_key(task_id: str, field: str, dot: Dot) -> str:
    """The key of an entry of a field."""
    return SEPARATOR.join((FIELD, task_id, field, _dot_text(dot)))


def claim_key(task_id: str, *, time_ms: int, agent: str) -> str:
    """The key of a claim."""
    return SEPARATOR.join((CLAIM, task_id, f"{time_ms:0{_TIME_DIGITS}d}", agent))


def done_key(task_id: str, *, time_ms: int, agent: str) -> str:
    """The key of a completion."""
    return SEPARATOR.join((DONE, task_id, f"{time_ms:0{_TIME_DIGITS}d}", agent))


def tag_key(task_id: str, tag: str, dot: Dot) -> str:
    """The key of a tag."""
    return SEPARATOR.join((TAG, task_id, tag, _dot_text(dot)))


def read_fact(key: str) -> Fact | None:
    """The fact of a key; None for what this release does not know, which is kept and handed on as it is."""
    kind, *parts = key.split(SEPARATOR)
    if len(parts) != _KINDS_OF_PARTS.get(kind):
        return None
    if kind in (CLAIM, DONE):
        task_id, time, agent = parts
        if len(time) != _TIME_DIGITS or not (time.isascii() and time.isdigit()):
            return None
        return Fact(kind, task_id, agent, None, int(time))
    dot = _read_dot(parts[-1])
    if dot is None:
        return None
    return Fact(kind, parts[0], "" if kind == MEMBER else parts[1], dot, None)


def _dot_text(dot: Dot) -> str:
    return f"{dot.lamport:0{_LAMPORT_DIGITS}x}.{dot.writer:0{_WRITER_DIGITS}x}"


def _read_dot(text: str) -> Dot | None:
    # int() alone takes more than we write: signs, blanks, underscores and capitals.
    found = _DOT.fullmatch(text)
    if found is None:
        return None
    lamport = int(found[1], 16)
    return Dot(lamport, int(found[2], 16)) if 0 < lamport <= LAMPORT_MAX else None
