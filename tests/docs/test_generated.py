"""Pages that repeat the code say what the code says, and cover all of it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest

from perdure import errors
from perdure.domain import container, limits, log, memory, route, stream, versioned
from perdure.domain.event import EventType
from perdure.domain.outbox import EFFECT_CONTRACTS, EFFECT_POLICIES
from perdure.domain.run import TRANSITIONS
from tests.docs.pages import ROOT, commands_of, is_command

TOOL = ROOT / "tools" / "generate_docs.py"
KINDS = ROOT / "docs" / "kinds"
RUNS = (KINDS / "runs.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
CLI = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")


def test_nothing_generated_is_stale():
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stdout) == (0, ""), f"run: python tools/generate_docs.py\n{done.stdout}{done.stderr}"


@pytest.mark.fast
def test_every_event_type_and_every_limit_is_documented():
    names = [f"| `{name}`" for name in EventType]
    names += [f"| `{name.lower()}`" for name in vars(limits) if name.isupper()]

    assert [name for name in names if name not in RUNS] == []


@pytest.mark.fast
def test_every_limit_of_a_routed_kind_is_documented_with_its_reason():
    row = re.compile(r"^\| `(\w+)` \| [\d,.]+ \| (.*) \|$", re.MULTILINE)
    shown = dict(found for page in KINDS.glob("*.md") for found in row.findall(page.read_text(encoding="utf-8")))
    modules = (container, log, memory, route, stream, versioned)
    names = [name.lower() for module in modules for name in vars(module) if name.endswith("_MAX")]

    assert [name for name in names if not shown.get(name)] == []


@pytest.mark.fast
def test_every_edge_of_the_status_machines_is_documented():
    rows = {
        (machine, "-" if source == "(begins)" else source): targets
        for machine, source, targets in re.findall(r"^\| ([A-Z_]+) \| (\S+) \| (.+) \|$", RUNS, re.MULTILINE)
    }

    assert [edge for edge in TRANSITIONS if str(edge.target) not in rows.get((edge.machine, edge.source), "")] == []


@pytest.mark.fast
def test_every_error_is_documented():
    assert [name for name in errors.__all__ if f"`{name}`" not in ERRORS] == []


@pytest.mark.fast
def test_the_retries_of_effect_types_are_those_of_the_code():
    rows = re.findall(r"^\| ([A-Z_]+|all others) \| (\d+) \| ([\d, ]+) s \|$", RUNS, re.MULTILINE)
    shown = {name: (int(retries), [float(s) for s in waits.split(",")]) for name, retries, waits in rows}

    for effect_type, policy in EFFECT_POLICIES.items():
        retries, waits = shown.get(effect_type, shown["all others"])
        assert (retries, waits) == (policy.max_retries, [policy.base_s * 2**n for n in range(1, retries + 1)])
    assert [name for name in EFFECT_CONTRACTS if name not in RUNS] == []


def test_every_command_in_every_page_exists():
    documented = set(re.findall(r"^## perdure ([a-z -]+)$", CLI, re.MULTILINE))
    unknown = {}
    for page in [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        missing = {name for name in commands_of(page.read_text(encoding="utf-8")) if not is_command(name, documented)}
        if missing:
            unknown[page.name] = missing

    assert documented
    assert unknown == {}


def test_a_stale_page_is_found():
    rendered = runpy.run_path(str(TOOL))["rendered"]
    page = "before\n<!-- generated: x -->\nold\n<!-- end -->\nafter\n"

    assert rendered(page, parts={"x": lambda: "new\n"}) == page.replace("old", "new")
