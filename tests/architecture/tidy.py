"""The rules of the house that no linter knows. Each is a function of text, so that a test can plant a violation."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import PurePosixPath
from typing import TypeGuard

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# A file named like this is where things go that nobody named.
BANNED_FILE_NAMES = frozenset({"base", "common", "helpers", "manager", "misc", "util", "utils"})

# A generated file is as long as its source makes it; everything else holds for it too.
GENERATED = re.compile(r"^# GENERATED\b|^\"\"\"GENERATED\b", re.MULTILINE)

# One letter of each stands in brackets, or this file would break its own rule.
BANNED_TEXTS = {
    "an unfinished thing: finish it, or leave it out": re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b"),
    "the address of a package registry: the machine that installs knows its own": re.compile(
        r"\b(pypi[.]org|pythonhosted[.]org|registry[.]npmjs[.]org|registry[.]yarnpkg[.]com"
        r"|(static|index)[.]crates[.]io|proxy[.]golang[.]org)\b"
    ),
    "a path of one machine": re.compile(r"(?<![\w./-])/wor[k]/|[.][.]/share[d]\b"),
}

WAITS = frozenset({"asyncio.sleep", "anyio.sleep", "trio.sleep"})
BROAD_ERRORS = frozenset({"Exception", "BaseException"})
SUPPRESSORS = frozenset({"suppress", "contextlib.suppress"})
MOCKS = frozenset({"mock", "unittest.mock"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def file_too_long(text: str) -> Iterator[str]:
    """Yield a complaint if a hand-written file has more lines than fit in a head."""
    lines = text.count("\n")
    if lines > FILE_LINES_MAX and not GENERATED.search(text[:500]):
        yield f"{lines} lines; at most {FILE_LINES_MAX}: split it by subject"


def functions_too_long(text: str) -> Iterator[str]:
    """Yield each hand-written function that does not fit on a screen."""
    if GENERATED.search(text[:500]):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, FunctionNode):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"line {node.lineno}: {node.name} has {lines} lines; at most {FUNCTION_LINES_MAX}"


def banned_file_name(path: str) -> Iterator[str]:
    """Yield a complaint if any part of a path is a name that says nothing."""
    for part in PurePosixPath(path).parts:
        if PurePosixPath(part).stem.removeprefix("test_") in BANNED_FILE_NAMES:
            yield f"{part!r} says nothing about what is inside: name the subject"


def banned_texts(text: str) -> Iterator[str]:
    """Yield every line that holds something no tracked file may hold."""
    for number, line in enumerate(text.splitlines(), start=1):
        for complaint, pattern in BANNED_TEXTS.items():
            if match := pattern.search(line):
                yield f"line {number}: {match.group()!r} is {complaint}"


def missing_module_docstring(text: str) -> Iterator[str]:
    """Yield a complaint if a module does not say why it exists."""
    if not ast.get_docstring(ast.parse(text)):
        yield "no module docstring: say why the file exists, and its one rule if it has one"


def banned_calls(text: str) -> Iterator[str]:
    """Yield each blocking sleep and each unfinished method."""
    for node in ast.walk(ast.parse(text)):
        if _calls(node, {"time.sleep"}):
            yield f"line {node.lineno}: time.sleep blocks the event loop; wait for the thing itself"
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {n.name for n in node.names}:
            yield f"line {node.lineno}: time.sleep blocks the event loop; wait for the thing itself"
        if isinstance(node, ast.Raise) and node.exc and "NotImplementedError" in ast.unparse(node.exc):
            yield f"line {node.lineno}: NotImplementedError; use a Protocol, or leave it out"


def swallowed_errors(text: str) -> Iterator[str]:
    """Yield each place where any error at all disappears."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            if node.type is None:
                yield f"line {node.lineno}: bare except; name the errors"
            elif _names(node.type) & BROAD_ERRORS and all(_does_nothing(statement) for statement in node.body):
                yield f"line {node.lineno}: swallows every error; name the errors, or report this one"
        elif _calls(node, SUPPRESSORS) and any(_names(argument) & BROAD_ERRORS for argument in node.args):
            yield f"line {node.lineno}: suppresses every error; name the errors"


def sleeping_tests(text: str) -> Iterator[str]:
    """Yield each wait for time to pass; giving way once (``sleep(0)``) is not one."""
    for node in ast.walk(ast.parse(text)):
        if _calls(node, WAITS) and [ast.unparse(argument) for argument in node.args] != ["0"]:
            yield f"line {node.lineno}: a test that sleeps is slow or flaky; wait for the thing itself"


def mocks(text: str) -> Iterator[str]:
    """Yield each import of a mocking library."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported = {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported = {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
        else:
            continue
        if imported & MOCKS:
            yield f"line {node.lineno}: our own code is never mocked; use a real engine or a fault"


def _calls(node: ast.AST, functions: Collection[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in functions


def _names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass | ast.Continue) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )
