"""What makes a commit risky, rule by rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from perdure.cli.demo.triage import (
    RISKY_SCORE,
    Commit,
    Facts,
    Touched,
    assess,
    kind_of,
    outstanding_commits,
)

pytestmark = pytest.mark.fast

PLAIN = Commit(
    hash="1" * 40,
    parents=("0" * 40,),
    author="Ada",
    authored_at=datetime.fromisoformat("2026-01-06T11:00:00+01:00"),
    subject="Say it better",
    files=1,
    insertions=3,
    deletions=1,
)


def reasons(**changed: object) -> tuple[str, ...]:
    facts = {name: value for name, value in changed.items() if name in Facts.__dataclass_fields__}
    commit = replace(PLAIN, **{name: value for name, value in changed.items() if name not in facts})  # type: ignore[arg-type]
    return assess(Facts(commit=commit, **facts)).reasons  # type: ignore[arg-type]


def test_a_plain_commit_has_nothing_against_it() -> None:
    verdict = assess(Facts(commit=PLAIN, earlier_authors=("Ada",)))
    assert verdict.as_json() == {"risky": False, "score": 0, "reasons": []}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"parents": ()}, "nothing came before it that it could be compared with"),
        ({"parents": ("2" * 40, "3" * 40)}, "it joins histories"),
        ({"outstanding": True}, "one of the largest of its neighbours"),
        ({"insertions": 300}, "301 lines changed"),
        ({"files": 21}, "21 files touched"),
        ({"deletions": 100, "insertions": 33}, "100 lines removed, 33 added"),
        ({"touched": (Touched(path="db/migrations/1.py", added=1, removed=0),)}, "touches migrations or SQL"),
        ({"touched": (Touched(path="src/auth.py", added=1, removed=0),)}, "touches authentication or secrets"),
        ({"touched": (Touched(path=".github/x.yml", added=1, removed=0),)}, "touches what builds and ships"),
        ({"touched": (Touched(path="poetry.lock", added=1, removed=0),)}, "touches dependencies"),
        ({"touched": (Touched(path="a.png", added=None, removed=None),)}, "1 binary files, which nobody can review"),
        ({"subject": "HOTFIX for prod"}, "its subject says 'hotfix'"),
        ({"authored_at": datetime.fromisoformat("2026-01-06T05:59:00+01:00")}, "written at night"),
        ({"authored_at": datetime.fromisoformat("2026-01-10T12:00:00+01:00")}, "written at the weekend"),
        ({"earlier_authors": ("Ada",) * 5}, "5 commits before it on the same files"),
        ({"earlier_authors": ("Bob",)}, "its author is new to these files"),
    ],
)
def test_each_rule_says_why(changed: dict[str, object], reason: str) -> None:
    assert reasons(**changed) == (reason,)


@pytest.mark.parametrize(
    "changed",
    [
        {"insertions": 299},
        {"files": 20},
        {"deletions": 99, "insertions": 0},
        {"authored_at": datetime.fromisoformat("2026-01-06T06:00:00+01:00")},
        {"authored_at": None},
        {"earlier_authors": ("Ada",) * 4},
        {"subject": "Whackamole: hacksaw, wiped"},
    ],
)
def test_below_its_threshold_a_rule_is_silent(changed: dict[str, object]) -> None:
    assert reasons(**changed) == ()


def test_findings_add_up_to_a_risk() -> None:
    touched = (Touched(path="auth/login.sql", added=1, removed=0),)
    below = assess(Facts(commit=PLAIN, touched=touched))
    above = assess(Facts(commit=replace(PLAIN, subject="Revert it"), touched=touched))
    assert (below.score, below.risky) == (RISKY_SCORE - 1, False)
    assert (above.score, above.risky) == (RISKY_SCORE + 1, True)


def test_the_largest_twentieth_is_outstanding_and_one_always_is() -> None:
    few = tuple(replace(PLAIN, hash=f"{number:040}", insertions=number) for number in range(39))
    assert outstanding_commits(few) == {f"{38:040}"}
    assert len(outstanding_commits((*few, PLAIN))) == 2
    empty = replace(PLAIN, insertions=None, deletions=None)
    assert outstanding_commits((empty,)) == frozenset()
    assert outstanding_commits(()) == frozenset()


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        ('Revert "Add it"', "revert"),
        ("fix: add the missing check", "fix"),
        ("docs: fix a link", "documentation"),
        ("Add tests", "feature"),
        ("Bump httpx to 0.28", "dependencies"),
        ("v1.2.3", "release"),
        ("Say it better", "change"),
        ("", "change"),
    ],
)
def test_the_first_word_that_tells_is_the_kind(subject: str, kind: str) -> None:
    assert kind_of(replace(PLAIN, subject=subject)) == kind


def test_a_merge_is_a_merge_whatever_it_says() -> None:
    assert kind_of(replace(PLAIN, parents=("2" * 40, "3" * 40), subject="Fix it")) == "merge"


def test_a_commit_survives_being_a_payload() -> None:
    assert Commit.from_payload(PLAIN.payload()) == PLAIN
