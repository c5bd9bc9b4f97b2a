"""A law without code that enforces it and a test that proves it is a wish; docs/laws.md has none."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAWS_FILE = ROOT / "docs" / "laws.md"
REFERENCE = re.compile(r"`([^`]+)`")
ROW = re.compile(
    r"^\| *(?P<number>L\d+) *\|(?P<sentence>[^|]+)\|(?P<enforced>[^|]+)\|(?P<proved>[^|]+)\|$", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    number: str
    sentence: str
    enforced: list[str]
    proved: list[str]


def parse(text: str) -> list[Law]:
    return [
        Law(
            number=row["number"],
            sentence=row["sentence"].strip(),
            enforced=REFERENCE.findall(row["enforced"]),
            proved=REFERENCE.findall(row["proved"]),
        )
        for row in ROW.finditer(text)
    ]


def problem(reference: str, root: Path = ROOT) -> str | None:
    """Say what is wrong with ``path`` or ``path::name``, or return None."""
    path, _, name = reference.partition("::")
    target = root / path
    if not target.exists():
        return f"{path} does not exist"
    if not name:
        return None
    text = target.read_text(encoding="utf-8")
    if path.endswith(".py"):
        defined = {
            node.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        }
        found = name in defined
    else:
        found = re.search(rf"\b{re.escape(name)}\b", text) is not None
    return None if found else f"{path} does not define {name}"


LAWS = parse(LAWS_FILE.read_text(encoding="utf-8"))


def test_the_laws_are_numbered_without_a_gap() -> None:
    assert [law.number for law in LAWS] == [f"L{number}" for number in range(1, len(LAWS) + 1)]
    assert len(LAWS) >= 7  # the core rules alone
    assert len(LAWS) == len(re.findall(r"^\| *L\d+", LAWS_FILE.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.number)
def test_every_law_names_code_that_exists(law: Law) -> None:
    assert law.enforced
    assert [found for reference in law.enforced if (found := problem(reference))] == []


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.number)
def test_every_law_names_a_test_that_exists(law: Law) -> None:
    assert law.proved
    assert all("::test_" in reference for reference in law.proved)
    assert [found for reference in law.proved if (found := problem(reference))] == []


def test_a_law_that_names_nothing_real_is_found(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("class Plane:\n    def open(self): ...\n")
    (tmp_path / "table.sql").write_text("CREATE POLICY tenant_isolation ON runs;\n")

    assert problem("code.py", tmp_path) is None
    assert problem("code.py::open", tmp_path) is None
    assert problem("table.sql::tenant_isolation", tmp_path) is None
    assert problem("gone.py", tmp_path) == "gone.py does not exist"
    assert problem("code.py::close", tmp_path) == "code.py does not define close"
    assert problem("table.sql::isolation", tmp_path) == "table.sql does not define isolation"


def test_a_row_of_the_table_is_read_whole() -> None:
    (law,) = parse("| L1 | A law. | `a.py`, `b.sql::x` | `t.py::test_it` |\n")

    assert law == Law(number="L1", sentence="A law.", enforced=["a.py", "b.sql::x"], proved=["t.py::test_it"])
