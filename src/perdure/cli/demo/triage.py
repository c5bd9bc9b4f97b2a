"""What makes a commit risky: values and rules, no I/O. A rule is a function of the facts; ``RULES`` lists them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self, TypeAlias

import msgspec

RISKY_SCORE: Final = 3
"""From this score on somebody is told about a commit."""

KINDS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("revert", re.compile(r"revert\b", re.IGNORECASE)),
    ("fix", re.compile(r"(hot)?fix(es|ed|up)?\b|bug(fix)?\b|correct", re.IGNORECASE)),
    ("documentation", re.compile(r"docs?\b|readme\b|changelog\b|document", re.IGNORECASE)),
    ("tests", re.compile(r"tests?\b", re.IGNORECASE)),
    ("dependencies", re.compile(r"bump\b|upgrade\b|(build|chore)\(deps|update .*\bdependenc", re.IGNORECASE)),
    ("release", re.compile(r"release\b|v?\d+\.\d+(\.\d+)?\b", re.IGNORECASE)),
    ("feature", re.compile(r"feat(ure)?\b|add(s|ed)?\b|implement|introduce", re.IGNORECASE)),
)

_SENSITIVE: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("migrations or SQL", re.compile(r"(^|/)migrations?/|\.sql$", re.IGNORECASE)),
    ("authentication or secrets", re.compile(r"auth|secur|secret|passw|crypt|credential|permission", re.IGNORECASE)),
    (
        "what builds and ships",
        re.compile(r"(^|/)\.(github|gitlab|circleci|ci)\b|(^|/)(Dockerfile|Makefile|Jenkinsfile)"),
    ),
    (
        "dependencies",
        re.compile(r"(^|/)(requirements[^/]*\.txt|pyproject\.toml|package(-lock)?\.json|go\.(mod|sum)|[^/]+\.lock)$"),
    ),
)
_ALARMING: Final = re.compile(
    r"\b(revert|hotfix|urgent|security|cve-\d+|vulnerab\w*|breaking|rollback|workaround|hack|wip|emergency)\b",
    re.IGNORECASE,
)
_LINES_LARGE: Final = 300
_LINES_HUGE: Final = 1_500
_FILES_MANY: Final = 20
_REMOVED_MANY: Final = 100
_BUSY_COMMITS: Final = 5
_NIGHT_ENDS: Final = 6
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What the signal of a commit says. Counts are None where git could not say (a merge, a partial clone)."""

    hash: str
    parents: tuple[str, ...]
    author: str
    authored_at: datetime | None
    subject: str
    files: int | None
    insertions: int | None
    deletions: int | None

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """The commit that a signal was made of; raises ``msgspec.ValidationError`` for another payload."""
        return msgspec.convert(dict(payload), cls)

    def payload(self) -> dict[str, Any]:
        """What the signal of this commit keeps; the same for the same commit, whoever reads it."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @property
    def is_merge(self) -> bool:
        """Whether it joins histories."""
        return len(self.parents) > 1

    @property
    def lines(self) -> int:
        """Lines added and removed, as far as known."""
        return (self.insertions or 0) + (self.deletions or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """A file that a commit touched; ``added`` and ``removed`` are None for a binary one."""

    path: str
    added: int | None
    removed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a commit when it is judged.

    ``earlier_authors`` made the commits that touched the same files shortly before, one entry each. ``outstanding``
    says that it is among the largest of those looked at together.
    """

    commit: Commit
    touched: tuple[Touched, ...] = ()
    earlier_authors: tuple[str, ...] = ()
    outstanding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Why a commit is riskier than another, and by how much."""

    points: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The sum of all findings."""

    score: int
    risky: bool
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As a step records it."""
        return {"risky": self.risky, "score": self.score, "reasons": list(self.reasons)}


Rule: TypeAlias = Callable[[Facts], Finding | None]


def kind_of(commit: Commit) -> str:
    """What kind of change a commit says it is: the first word of ``KINDS`` that its subject has, else ``change``."""
    if commit.is_merge:
        return "merge"
    found = ((match.start(), kind) for kind, pattern in KINDS if (match := pattern.search(commit.subject)))
    return min(found, default=(0, "change"))[1]


def assess(facts: Facts) -> Verdict:
    """Apply every rule. Findings come in the order of the rules."""
    findings = [finding for rule in RULES if (finding := rule(facts)) is not None]
    score = sum(finding.points for finding in findings)
    reasons = tuple(finding.reason for finding in findings)
    return Verdict(score=score, risky=score >= RISKY_SCORE, reasons=reasons)


def outstanding_commits(commits: tuple[Commit, ...]) -> frozenset[str]:
    """The hashes of the largest twentieth of these commits, one at least; of equal ones those that come first."""
    by_size = sorted((commit for commit in commits if commit.lines), key=lambda commit: -commit.lines)
    return frozenset(commit.hash for commit in by_size[: max(1, len(commits) // 20)])


def _begins_history(facts: Facts) -> Finding | None:
    if facts.commit.parents:
        return None
    return Finding(points=3, reason="nothing came before it that it could be compared with")


def _merges(facts: Facts) -> Finding | None:
    return Finding(points=1, reason="it joins histories") if facts.commit.is_merge else None


def _is_outstanding(facts: Facts) -> Finding | None:
    return Finding(points=3, reason="one of the largest of its neighbours") if facts.outstanding else None


def _is_large(facts: Facts) -> Finding | None:
    lines = facts.commit.lines
    if lines <= _LINES_LARGE:
        return None
    return Finding(points=2 if lines > _LINES_HUGE else 1, reason=f"{lines} lines changed")


def _spreads(facts: Facts) -> Finding | None:
    files = facts.commit.files or len(facts.touched)
    return Finding(points=1, reason=f"{files} files touched") if files > _FILES_MANY else None


def _removes(facts: Facts) -> Finding | None:
    removed, added = facts.commit.deletions or 0, facts.commit.insertions or 0
    if removed < _REMOVED_MANY or removed < 3 * added:
        return None
    return Finding(points=1, reason=f"{removed} lines removed, {added} added")


def _touches_sensitive(facts: Facts) -> Finding | None:
    areas = [area for area, pattern in _SENSITIVE if any(pattern.search(file.path) for file in facts.touched)]
    return Finding(points=min(len(areas), 3), reason=f"touches {', '.join(areas)}") if areas else None


def _adds_binary(facts: Facts) -> Finding | None:
    binary = [file.path for file in facts.touched if file.added is None]
    return Finding(points=1, reason=f"{len(binary)} binary files, which nobody can review") if binary else None


def _alarms(facts: Facts) -> Finding | None:
    match = _ALARMING.search(facts.commit.subject)
    return Finding(points=2, reason=f"its subject says {match.group().lower()!r}") if match else None


def _at_odd_hours(facts: Facts) -> Finding | None:
    at = facts.commit.authored_at
    if at is None or (at.hour >= _NIGHT_ENDS and at.weekday() < _SATURDAY):
        return None
    return Finding(points=1, reason="written at night" if at.hour < _NIGHT_ENDS else "written at the weekend")


def _on_busy_files(facts: Facts) -> Finding | None:
    earlier = len(facts.earlier_authors)
    return (
        Finding(points=1, reason=f"{earlier} commits before it on the same files") if earlier >= _BUSY_COMMITS else None
    )


def _by_a_newcomer(facts: Facts) -> Finding | None:
    if not facts.earlier_authors or facts.commit.author in facts.earlier_authors:
        return None
    return Finding(points=1, reason="its author is new to these files")


RULES: Final[tuple[Rule, ...]] = (
    _begins_history,
    _merges,
    _is_outstanding,
    _is_large,
    _spreads,
    _removes,
    _touches_sensitive,
    _adds_binary,
    _alarms,
    _at_odd_hours,
    _on_busy_files,
    _by_a_newcomer,
)
