"""The synchronous facade is what its generator writes, and a difference on either side is found."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FACADE = ROOT / "src" / "perdure" / "sync"


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_sync.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what the generator reads and writes, to plant edits in."""
    for part in ("compose", "core", "domain", "ports", "sync"):
        shutil.copytree(ROOT / "src" / "perdure" / part, tmp_path / "perdure" / part)
    shutil.copy(ROOT / "src" / "perdure" / "config.py", tmp_path / "perdure")
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_facade_is_what_the_generator_writes() -> None:
    checked = generate("--check")

    assert checked.returncode == 0, checked.stderr


def test_an_edit_by_hand_is_found_and_undone(source: Path) -> None:
    edited = source / "perdure" / "sync" / "runs.py"
    replace(edited, "def release(self, run: Run)", "def release(self, run: Any)")

    checked = generate("--check", "--source", source)

    assert checked.returncode == 1
    assert "runs.py" in checked.stderr
    assert "run: Any" in edited.read_text(encoding="utf-8")
    assert generate("--source", source).returncode == 0
    assert edited.read_text(encoding="utf-8") == (FACADE / "runs.py").read_text(encoding="utf-8")


def test_a_change_of_the_source_is_found_and_followed(source: Path) -> None:
    replace(
        source / "perdure" / "core" / "signals.py", "async def find(self, channel: str", "async def find(self, by: str"
    )

    assert "signals.py" in generate("--check", "--source", source).stderr
    assert generate("--source", source).returncode == 0
    assert "def find(self, by: str" in (source / "perdure" / "sync" / "signals.py").read_text(encoding="utf-8")


def test_a_file_that_nothing_generates_is_found_and_removed(source: Path) -> None:
    left_over = source / "perdure" / "sync" / "former.py"
    left_over.write_text('"""What was here before."""\n')

    assert "former.py" in generate("--check", "--source", source).stderr
    assert generate("--source", source).returncode == 0
    assert not left_over.exists()


UNTRANSLATABLE = [
    ('    async def refresh(self, **names: str) -> None:\n        """Again."""', "arguments without a name"),
    ('    async def refresh(self) -> list[Signals]:\n        """Again."""', "has the facade Signals inside"),
    ('    def refresh(self) -> Awaitable[None]:\n        """Again."""', "needs an event loop"),
    ('    @final\n    async def refresh(self) -> None:\n        """Again."""', "is decorated"),
    ('    async def refresh(self):\n        """Again."""', "no return annotation"),
    ("    async def refresh(self) -> None:\n        ...", "no docstring"),
    ('    async def refresh(self) -> AsyncIterator[int]:\n        """Again."""', "awaited for an iterator"),
    (
        '    async def refresh(self, *, connection: JoinedConnection) -> None:\n        """Again."""',
        "cannot do without",
    ),
    ('    async def __anext__(self) -> int:\n        """Again."""', "no counterpart"),
]
IMPORTS = """\
from collections.abc import AsyncIterator, Awaitable
from typing import final

from perdure.ports.ledger import JoinedConnection
"""


@pytest.mark.parametrize(("method", "complaint"), UNTRANSLATABLE, ids=[complaint for _, complaint in UNTRANSLATABLE])
def test_what_cannot_be_translated_is_an_error_and_never_a_guess(source: Path, method: str, complaint: str) -> None:
    signals = source / "perdure" / "core" / "signals.py"
    replace(signals, "from uuid import UUID\n", f"from uuid import UUID\n{IMPORTS}")
    replace(signals, "    async def get(", f"{method}\n\n    async def get(")

    refused = generate("--source", source)

    assert refused.returncode == 2
    assert complaint in refused.stderr


def test_only_what_needs_an_event_loop_is_left_out() -> None:
    missing = []
    for path in FACADE.glob("*.py"):
        source = ROOT / "src" / "perdure" / "core" / path.name
        if source.exists():
            asynchronous, synchronous = classes(source), classes(path)
            missing += [f"{name}.{gone}" for name in synchronous for gone in asynchronous[name] - synchronous[name]]

    # Deliverers, chunks and messages come asynchronously; the docstrings of the three classes say what to do.
    assert sorted(missing) == ["Objects.put_chunks", "Plane.relay", "TaskList.sync"]


def classes(path: Path) -> dict[str, set[str]]:
    """The public methods of each class of a module."""
    return {
        node.name: {
            method.name
            for method in node.body
            if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) and not method.name.startswith("_")
        }
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
