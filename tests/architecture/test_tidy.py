"""The whole tree keeps the rules of tidy.py, and each rule finds what is planted for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture import tidy

ROOT = Path(__file__).parents[2]
Rule = Callable[[str], Iterator[str]]


@cache
def files() -> tuple[str, ...]:
    """Every file that is tracked, or would be if it were added."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(sorted(name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()))


def python_files(*folders: str) -> list[str]:
    return [name for name in files() if name.endswith(".py") and name.split("/")[0] in folders]


def complaints(names: list[str], rule: Rule) -> list[str]:
    return [f"{name}: {found}" for name in names for found in rule((ROOT / name).read_text(encoding="utf-8"))]


OURS = ("src", "tests", "tools", "bench", "conftest.py")

RULES: list[tuple[Rule, tuple[str, ...]]] = [
    (tidy.file_too_long, OURS),
    (tidy.functions_too_long, OURS),
    (tidy.missing_module_docstring, OURS),
    (tidy.banned_calls, OURS),
    (tidy.swallowed_errors, OURS),
    (tidy.mocks, OURS),
    (tidy.sleeping_tests, ("tests",)),
]


@pytest.mark.parametrize(("rule", "folders"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_every_python_file_keeps_the_rule(rule: Rule, folders: tuple[str, ...]) -> None:
    names = python_files(*folders)

    assert "tests/architecture/tidy.py" in names
    assert complaints(names, rule) == []


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [found for name in files() for found in tidy.banned_file_name(name)] == []


def test_no_file_is_unfinished_or_tied_to_one_machine() -> None:
    found = []
    for name in files():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content:  # text, not an image or a golden vector
            found += [f"{name}: {complaint}" for complaint in tidy.banned_texts(content.decode("utf-8"))]

    assert found == []


def test_every_sql_file_and_the_type_marker_are_part_of_the_package() -> None:
    assert "src/perdure/py.typed" in files()
    assert [name for name in files() if name.endswith(".sql") and not name.startswith(("src/", "tests/"))] == []


LONG_FUNCTION = "def f():\n" + "    x = 1\n" * tidy.FUNCTION_LINES_MAX

PLANTED: list[tuple[Rule, str]] = [
    (tidy.file_too_long, "x = 1\n" * (tidy.FILE_LINES_MAX + 1)),
    (tidy.functions_too_long, LONG_FUNCTION),
    (tidy.functions_too_long, "async " + LONG_FUNCTION),
    (tidy.functions_too_long, "class C:\n" + "".join(f"    {line}\n" for line in LONG_FUNCTION.splitlines())),
    (tidy.missing_module_docstring, "# a comment is not a docstring\nx = 1\n"),
    (tidy.banned_calls, "import time\ntime.sleep(1)\n"),
    (tidy.banned_calls, "from time import sleep\n"),
    (tidy.banned_calls, "def f():\n    raise NotImplementedError\n"),
    (tidy.swallowed_errors, "try:\n    f()\nexcept:\n    raise\n"),
    (tidy.swallowed_errors, "try:\n    f()\nexcept Exception:\n    pass\n"),
    (tidy.swallowed_errors, "try:\n    f()\nexcept (ValueError, BaseException) as e:\n    ...\n"),
    (tidy.swallowed_errors, "for x in y:\n    try:\n        f()\n    except Exception:\n        continue\n"),
    (tidy.swallowed_errors, "with contextlib.suppress(Exception):\n    f()\n"),
    (tidy.sleeping_tests, "import asyncio\nasync def f():\n    await asyncio.sleep(0.1)\n"),
    (tidy.sleeping_tests, "import anyio\nasync def f(delay_s):\n    await anyio.sleep(delay_s)\n"),
    (tidy.mocks, "from unittest import mock\n"),
    (tidy.mocks, "from unittest.mock import patch\n"),
    (tidy.mocks, "import unittest.mock\n"),
    (tidy.banned_file_name, "src/perdure/core/utils.py"),
    (tidy.banned_file_name, "tests/helpers/test_run.py"),
    (tidy.banned_file_name, "tests/core/test_misc.py"),
    (tidy.banned_texts, "# TO" + "DO: later\n"),
    (tidy.banned_texts, "x = 1  # FIX" + "ME\n"),
    (tidy.banned_texts, "--index" + "-url https://py" + "pi.org/simple\n"),
    (tidy.banned_texts, "https://files.python" + "hosted.org/packages/x.whl\n"),
    (tidy.banned_texts, "see /wo" + "rk/main/README.md\n"),
    (tidy.banned_texts, "see .." + "/shared/x.md\n"),
]

ALLOWED: list[tuple[Rule, str]] = [
    (tidy.file_too_long, "x = 1\n" * tidy.FILE_LINES_MAX),
    (tidy.file_too_long, '"""GENERATED from x."""\n' + "x = 1\n" * tidy.FILE_LINES_MAX),
    (tidy.functions_too_long, LONG_FUNCTION.removesuffix("    x = 1\n")),
    (tidy.missing_module_docstring, '"""Why."""\n'),
    (tidy.banned_calls, "await asyncio.sleep(1)\n"),
    (tidy.swallowed_errors, "try:\n    f()\nexcept ValueError:\n    pass\n"),
    (tidy.swallowed_errors, "try:\n    f()\nexcept Exception as e:\n    report(e)\n"),
    (tidy.sleeping_tests, "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n"),
    (tidy.mocks, "import unittest\n"),
    (tidy.banned_file_name, "src/perdure/domain/run.py"),
    (tidy.banned_file_name, "src/perdure/adapters/postgres/database.py"),
    (tidy.banned_texts, "see docs/kinds/work/index.md\n"),
]


def named(value: object) -> str | None:
    return getattr(value, "__name__", None) if callable(value) else None


@pytest.mark.parametrize(("rule", "text"), PLANTED, ids=named)
def test_a_planted_violation_is_found(rule: Rule, text: str) -> None:
    assert len(list(rule(text))) == 1


@pytest.mark.parametrize(("rule", "text"), ALLOWED, ids=named)
def test_what_is_just_allowed_is_not_found(rule: Rule, text: str) -> None:
    assert list(rule(text)) == []


def test_every_rule_has_a_planted_violation() -> None:
    rules = {rule for rule, _ in RULES} | {tidy.banned_file_name, tidy.banned_texts}

    assert {rule for rule, _ in PLANTED} == rules
