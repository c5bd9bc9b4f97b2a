"""Adding a backend touches its own files only: no other file under src knows its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "perdure"
BACKENDS = ("dynamodb", "firestore", "cosmos", "sqlite")


def own_files(backend: str) -> tuple[Path, Path]:
    """The two places that CONTRIBUTING names: the adapter's folder and its module in compose."""
    return PACKAGE / "adapters" / backend, PACKAGE / "compose" / "backends" / f"{backend}.py"


def mentions(backend: str, package: Path) -> list[str]:
    """Files outside the backend's own that contain its name, in any case."""
    folder, module = own_files(backend)
    word = re.compile(re.escape(backend), re.IGNORECASE)
    texts = (path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return [
        str(path.relative_to(package))
        for path in texts
        if not path.is_relative_to(folder) and path != module and word.search(path.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_s_name_occurs_in_its_own_files_only(backend: str):
    assert mentions(backend, PACKAGE) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_has_both_of_its_files(backend: str):
    folder, module = own_files(backend)
    assert (folder / "driver.py").is_file()
    assert module.is_file()


def test_a_mention_elsewhere_is_found(tmp_path: Path):
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "stores.py").write_text("if backend == 'DynamoDB': pass\n", encoding="utf-8")
    assert mentions("dynamodb", tmp_path) == ["core/stores.py"]
