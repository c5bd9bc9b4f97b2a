"""Writes the parts of the documentation that repeat the code: calls, events, status machines, limits, errors, commands.

python tools/generate_docs.py            write them
python tools/generate_docs.py --check    fail if one is not what it would write

A generated part of a page stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import typer.main

from perdure import errors
from perdure.adapters.postgres.errors import _OWN, _OWN_CODES
from perdure.adapters.postgres.session import Session
from perdure.compose.backends import Lent, backend_specs
from perdure.core.blackboards import Blackboards
from perdure.core.memory import Memory
from perdure.core.objects import Objects
from perdure.core.plane import Plane, Tenant
from perdure.core.reading import Events
from perdure.core.routes import Routes
from perdure.core.runs import Runs
from perdure.core.signals import Signals
from perdure.core.streams import Streams
from perdure.core.tables import Tables
from perdure.core.tasklists import TaskList, TaskLists
from perdure.core.telemetry import PlaneTelemetry, Telemetry
from perdure.core.tenant_outbox import TenantOutbox
from perdure.core.tenants import Tenants
from perdure.core.turns import Turns
from perdure.core.work import WorkUnits
from perdure.domain import limits
from perdure.domain.change import Change
from perdure.domain.event import EVENT_CONTRACTS
from perdure.domain.run import START, STATUSES, TRANSITIONS, is_terminal

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.kind_limits import (  # noqa: E402 - the line above finds `tools`
    MEMORY_LIMITS,
    OBJECT_LIMITS,
    ROUTE_LIMITS,
    STREAM_LIMITS,
    TABLE_LIMITS,
    TASKLIST_LIMITS,
    TELEMETRY_LIMITS,
    TURN_LIMITS,
    WORK_LIMITS,
    Limits,
)

Facades = Mapping[str, type]

# How the objects are called in the pages.
FACADES: Facades = {
    "plane.": Plane,
    "plane.tenants.": Tenants,
    "acme.": Tenant,
    "acme.signals.": Signals,
    "acme.runs.": Runs,
    "acme.events.": Events,
    "acme.outbox.": TenantOutbox,
    "change.": Change,
}

STREAMS: Facades = {"acme.streams.": Streams}
TABLES: Facades = {"acme.tables.": Tables}
MEMORY: Facades = {"acme.memory.": Memory, "acme.memory.boards.": Blackboards}
ROUTES: Facades = {"acme.routes.": Routes}
TURNS: Facades = {"acme.turns.": Turns}
OBJECTS: Facades = {"acme.objects.": Objects}
TASKLISTS: Facades = {"acme.tasklists.": TaskLists, "sprint.": TaskList}
TELEMETRY: Facades = {"acme.telemetry.": Telemetry, "plane.telemetry.": PlaneTelemetry}
WORK: Facades = {"acme.work.": WorkUnits}

# What an asynchronous iteration gives, where it is no event.
EACH = {
    "acme.memory.": "item",
    "acme.memory.boards.": "board",
    "acme.turns.": "turn",
    "acme.turns.purge": "context",
    "acme.objects.": "chunk",
    "acme.objects.collect": "ref",
    "sprint.": "view",
}

# Public for the other facades, of no use to anybody else.
INSIDE = {
    "acme.signals.draft",
    "change.release",
    "plane.telemetry.of",
    "plane.telemetry.refuse",
    "plane.telemetry.start",
}

DOCS = ROOT / "docs"
_PART = re.compile(r"(?P<begin><!-- generated: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_LIMIT = re.compile(r"^(?P<name>[A-Z_]+): Final = .+?  # (?P<reason>.+)$")
_GROUP = re.compile(r"^# --- (?P<title>.+?) -+$")


def events() -> str:
    """The taxonomy: what each event is about, must say and may say."""
    lines = ["| event | about | says | may say |", "|---|---|---|---|"]
    for contract in EVENT_CONTRACTS.values():
        says = ", ".join(f"{field}*" if field in contract.assigned else field for field in sorted(contract.required))
        may = ", ".join(sorted(contract.optional)) or "-"
        lines.append(f"| `{contract.type}` | {contract.aggregate} | {says} | {may} |")
    return _joined(lines)


def states() -> str:
    """The six status machines, one row a status."""
    lines = ["| machine | from | to |", "|---|---|---|"]
    for machine, statuses in STATUSES.items():
        for source in (START, *statuses):
            targets = [str(edge.target) for edge in TRANSITIONS if (edge.machine, edge.source) == (machine, source)]
            shown = "(begins)" if source == START else str(source)
            if source != START and is_terminal(machine, status=source):
                targets = [*(f"{target} (requeue only)" for target in targets), "end"]
            lines.append(f"| {machine} | {shown} | {', '.join(targets)} |")
    return _joined(lines)


def bounds() -> str:
    """Every named limit with its reason, from the comments beside them."""
    lines = ["| limit | value | why |", "|---|---|---|"]
    for line in inspect.getsource(limits).splitlines():
        if group := _GROUP.match(line):
            lines.append(f"| **{group['title'].partition(':')[0]}** | | |")
        elif limit := _LIMIT.match(line):
            lines.append(f"| `{limit['name'].lower()}` | {getattr(limits, limit['name']):,} | {limit['reason']} |")
    return _joined(lines)


def store_bounds(where: Limits) -> str:
    """The named limits of one routed kind."""
    lines = ["| limit | value | why |", "|---|---|---|"]
    for module, names in where:
        found = {
            limit["name"]: limit["reason"].replace("``", "`") for limit in map(_LIMIT.match, _source(module)) if limit
        }
        lines += [f"| `{name.lower()}` | {getattr(module, name):,} | {found.get(name, '')} |" for name in names.split()]
    return _joined(lines)


def _source(module: ModuleType) -> Sequence[str]:
    return inspect.getsource(module).splitlines()


def fields(backend: str) -> str:
    """What a route to a backend takes in its config."""
    # A specification only looks at what it is lent when it is opened.
    spec = backend_specs(Lent(session=cast("Session", None)))[backend]
    lines = ["| field | type | |", "|---|---|---|"]
    lines += [
        f"| `{field.name}` | {field.type}{', required' if field.required else ''} | {field.about} |"
        for field in spec.config
    ]
    return _joined(lines)


def verbs(facades: Facades = FACADES) -> str:
    """Every public method of the facades and of a change, with its signature and its promise."""
    lines = ["| call | promise |", "|---|---|"]
    for prefix, facade in facades.items():
        for name, method in inspect.getmembers(facade, inspect.isfunction):
            if name.startswith("_") or f"{prefix}{name}" in INSIDE:
                continue
            sentence = " ".join((method.__doc__ or "").split("\n\n")[0].split()).replace("``", "`").replace("|", "\\|")
            lines.append(f"| `{_call(prefix, name, method)}` | {sentence} |")
    return _joined(lines)


def _call(prefix: str, name: str, method: Callable[..., Any]) -> str:
    taken = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(method).parameters.values()
        if parameter.name != "self"
    ]
    words = str(inspect.Signature(taken)).replace("|", "\\|")
    wait = "await " if inspect.iscoroutinefunction(method) else ""
    wait = (
        f"async for {EACH.get(prefix + name, EACH.get(prefix, 'event'))} in "
        if inspect.isasyncgenfunction(method)
        else wait
    )
    return f"{wait}{prefix}{name}{re.sub(r'<[^>]*: ([^>]+)>', _default, words)}"


def _default(found: re.Match[str]) -> str:
    return found[1]


def classes() -> str:
    """The error tree: class, code and its one sentence."""
    lines = ["| class | code | what it says |", "|---|---|---|"]
    for depth, kind in _tree(errors.PerdureError, 0):
        sentence = " ".join((kind.__doc__ or "").split("\n\n")[0].split()).replace("``", "`")
        name = f"**`{kind.__name__}`**" if depth < 2 else f"`{kind.__name__}`"  # noqa: PLR2004 - the four answers
        lines.append(f"| {name} | `{kind.code}` | {sentence} |")
    return _joined(lines)


def narrow() -> str:
    """The codes that narrow a class's own, found where they are raised."""
    found: dict[str, set[str]] = {}
    for state, code in _OWN_CODES.items():
        found.setdefault(_OWN[state].__name__, set()).add(code)
    for path in sorted((ROOT / "src" / "perdure").rglob("*.py")):
        for kind, code in _codes(ast.parse(path.read_text(encoding="utf-8"))):
            found.setdefault(kind, set()).add(code)
    lines = ["| class | narrower codes |", "|---|---|"]
    lines += [f"| `{kind}` | {', '.join(f'`{code}`' for code in sorted(found[kind]))} |" for kind in sorted(found)]
    return _joined(lines)


def _codes(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors.__all__:
            for keyword in node.keywords:
                if keyword.arg != "code":
                    continue
                if isinstance(keyword.value, ast.Constant):
                    yield node.func.id, str(keyword.value.value)
                elif isinstance(keyword.value, ast.JoinedStr):
                    # Begins with the kind that it is about.
                    yield node.func.id, ast.unparse(keyword.value)[2:-1]


def _tree(kind: type[errors.PerdureError], depth: int) -> Iterator[tuple[int, type[errors.PerdureError]]]:
    yield depth, kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _tree(below, depth + 1)


def commands() -> str:
    """Every command with its arguments and options, as ``--help`` knows them."""
    from perdure.cli.main import app  # noqa: PLC0415 - the rest of the documentation needs no command line

    root = typer.main.get_command(app)
    return "\n" + "\n".join(_sections(root, "perdure"))


def _sections(command: Any, name: str) -> Iterator[str]:
    # Typer brings a click of its own, whose types nobody else can name.
    context = command.context_class(command, info_name=name)
    if not hasattr(command, "list_commands"):
        yield _section(command, name, context)
        return
    for word in sorted(command.list_commands(context)):
        below = command.get_command(context, word)
        if not below.hidden:
            yield from _sections(below, f"{name} {word}")


def _section(command: Any, name: str, context: Any) -> str:
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    words = " ".join(command.collect_usage_pieces(context))
    lines = [f"## {name}", "", help_text, "", "```text", f"{name} {words}", "```", ""]
    rows = [row for parameter in command.get_params(context) if (row := _row(parameter, context))]
    if rows:
        lines += ["| argument or option | |", "|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: Any, context: Any) -> str | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    record = parameter.get_help_record(context)
    if record is None:
        name, said = parameter.human_readable_name, getattr(parameter, "help", None) or ""
    else:
        name, said = record
    name, said = (" ".join(text.split()).replace("|", "\\|") for text in (name, said))
    return f"| `{name}` | {said} |"


def _joined(lines: list[str]) -> str:
    return "\n" + "\n".join(lines) + "\n\n"


PARTS: dict[str, Callable[[], str]] = {
    "events": events,
    "verbs": verbs,
    "verbs_streams": partial(verbs, STREAMS),
    "verbs_tables": partial(verbs, TABLES),
    "verbs_memory": partial(verbs, MEMORY),
    "verbs_routes": partial(verbs, ROUTES),
    "verbs_turns": partial(verbs, TURNS),
    "verbs_objects": partial(verbs, OBJECTS),
    "verbs_tasklists": partial(verbs, TASKLISTS),
    "verbs_work": partial(verbs, WORK),
    "verbs_telemetry": partial(verbs, TELEMETRY),
    "states": states,
    "limits": bounds,
    "limits_streams": partial(store_bounds, STREAM_LIMITS),
    "limits_tables": partial(store_bounds, TABLE_LIMITS),
    "limits_memory": partial(store_bounds, MEMORY_LIMITS),
    "limits_routes": partial(store_bounds, ROUTE_LIMITS),
    "limits_turns": partial(store_bounds, TURN_LIMITS),
    "limits_work": partial(store_bounds, WORK_LIMITS),
    "limits_telemetry": partial(store_bounds, TELEMETRY_LIMITS),
    "limits_objects": partial(store_bounds, OBJECT_LIMITS),
    "limits_tasklists": partial(store_bounds, TASKLIST_LIMITS),
    "fields_dynamodb": partial(fields, "dynamodb"),
    "fields_firestore": partial(fields, "firestore"),
    "fields_cosmos": partial(fields, "cosmos"),
    "fields_postgres": partial(fields, "postgres"),
    "fields_sqlite": partial(fields, "sqlite"),
    "fields_filesystem": partial(fields, "filesystem"),
    "fields_s3": partial(fields, "s3"),
    "fields_cxdb": partial(fields, "cxdb"),
    "fields_gcs": partial(fields, "gcs"),
    "fields_azure": partial(fields, "azure"),
    "errors": classes,
    "codes": narrow,
    "commands": commands,
}


def rendered(page: str, *, parts: dict[str, Callable[[], str]] = PARTS) -> str:
    """A page with its generated parts as the code is now."""
    return _PART.sub(lambda found: found["begin"] + parts[found["name"]]() + found["end"], page)


def main() -> int:
    """Write or check; the exit status says whether anything is stale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail instead of writing")
    check: bool = parser.parse_args().check
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = rendered(old)
        if new != old:
            stale.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"{'stale' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
