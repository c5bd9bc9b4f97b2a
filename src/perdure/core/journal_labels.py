"""The labels by which contexts of runs and sessions are found again."""

from __future__ import annotations

from typing import Final

from perdure.domain.turn import check_labels, content_hash
from perdure.errors import Refused

RUN: Final = "run"
BRANCH_OF_RUN: Final = "branch-of-run"
SESSION: Final = "session"
SESSION_OF_RUN: Final = "session-of-run"


def run_label(run_id: str) -> str:
    """What a run's contexts are found by: its first, and those that it was resumed in."""
    return _label(RUN, run_id)


def branches_label(run_id: str) -> str:
    """What the contexts of a run's parallel branches are found by."""
    return _label(BRANCH_OF_RUN, run_id)


def session_label(session_id: str) -> str:
    """What a session's context is found by."""
    return _label(SESSION, session_id)


def sessions_label(run_id: str) -> str:
    """What the sessions are found by that began for a run, even if the link to one was lost."""
    return _label(SESSION_OF_RUN, run_id)


def fork_label(kind: str, *parts: object) -> str:
    """What one fork is found by, so that making it again finds the first one."""
    text = "|".join(f"{len(str(part))}:{part}" for part in parts)
    return f"{kind}#{_digest(text)}"


def _label(kind: str, value: str) -> str:
    # An id may be longer than a label, or of several lines; its hash is neither.
    label = f"{kind}:{value}"
    try:
        check_labels((label,))
    except Refused:
        return f"{kind}#{_digest(value)}"
    return label


def _digest(text: str) -> str:
    return content_hash(text.encode("utf-8", "surrogatepass"))
