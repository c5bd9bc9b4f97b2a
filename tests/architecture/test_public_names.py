"""What ``import perdure`` promises: every name in ``__all__`` is there, says what it is, and nothing is there twice."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import perdure

ROOT = Path(__file__).parents[2]
NAMES: list[str] = list(getattr(perdure, "__all__", []))


def undocumented(name: str, value: object) -> bool:
    """Tell whether a class or function has no docstring of its own; a dataclass's generated one does not count."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return False  # a constant is documented where it is assigned
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return not own or own.startswith(f"{name}(")


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_importable_and_documented(name: str) -> None:
    assert hasattr(perdure, name)
    assert not undocumented(name, getattr(perdure, name))


def test_no_public_name_is_listed_twice_or_private() -> None:
    assert sorted(set(NAMES)) == sorted(NAMES)
    assert [name for name in NAMES if name.startswith("_") and name != "__version__"] == []


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert perdure.__version__ == project["version"]


def test_importing_perdure_opens_nothing_and_prints_nothing() -> None:
    program = "import sys, threading, perdure; print(threading.active_count())"

    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)

    assert (run.stdout, run.stderr) == ("1\n", "")


def test_every_error_is_drawn_in_the_tree_of_its_module() -> None:
    module = ast.parse((ROOT / "src" / "perdure" / "errors.py").read_text(encoding="utf-8"))
    drawing = ast.get_docstring(module) or ""
    classes = [node.name for node in module.body if isinstance(node, ast.ClassDef)]

    assert [name for name in classes if name not in drawing] == []


def test_a_name_without_its_own_docstring_is_found() -> None:
    class Documented:
        """It says what it is."""

    class Silent(Documented):
        pass

    assert undocumented("Silent", Silent)
    assert undocumented("silent", lambda: None)
    assert not undocumented("Documented", Documented)
