"""``perdure work``: units of work, their history, and whether both are what was written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from perdure.cli import output
from perdure.cli.target import (
    DATA_DIR_DEFAULT,
    AsJson,
    Cursor,
    DataDir,
    Dsn,
    Env,
    Limit,
    Mode,
    Settings,
    TenantName,
    moment,
    opened_tenant,
    row_id,
)
from perdure.errors import Invalid

if TYPE_CHECKING:  # imported where it is used: it costs more than starting the command
    from perdure.domain.work import HistoryEntry, WorkUnit
    from perdure.domain.work_results import AttributeDrift, WorkVerification

app = typer.Typer(name="work", help="Units of work: status, history, verification.", no_args_is_help=True)

UnitId = Annotated[str, typer.Argument(metavar="UNIT", help="A unit's id.")]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Where the key of hashes is, such as secret://env/NAME.", metavar="REFERENCE"),
]

_HASH_CHARS: Final = 12  # of a hash in a table; all of it is in --json


@app.callback()
def options() -> None:
    """Units of work: status, history, verification."""


@app.command(name="list")
def list_(
    *,
    status: Annotated[str | None, typer.Option("--status", help="Only those with it.")] = None,
    instance: Annotated[str | None, typer.Option("--instance", help="Only those of it.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", help="Only children of this unit.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """List units in the order in which they were made."""
    above = None if parent is None else row_id(parent, what="a unit of work")

    async def read() -> Any:
        """One page."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.work.list(status=status, instance=instance, parent=above, cursor=cursor, limit=limit)

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    output.print_table(
        ("UNIT", "INSTANCE", "SCHEMA", "STATUS", "VERSION", "OWNER", "HEARTBEAT", "UPDATED"),
        [_unit_cells(unit) for unit in page.items],
    )
    output.print_page_end(page, nothing="no units of work")


@app.command()
def show(
    unit: UnitId,
    *,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show a unit with its attributes, as they are stored."""
    unit_id = row_id(unit, what="a unit of work")

    async def read() -> Any:
        """The unit."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            return await acme.work.get(unit_id)

    found = asyncio.run(read())
    if as_json:
        from perdure.domain.typed_values import to_json  # noqa: PLC0415 - see above

        attributes = {key: to_json(value) for key, value in found.attributes.items()}
        output.print_json({"unit": found.unit, "attributes": attributes})
        return
    facts = {name: getattr(found.unit, name) for name in found.unit.__slots__}
    output.print_facts({name: None if value == 0 else value for name, value in facts.items()})
    if found.attributes:
        typer.echo("")
        output.print_table(("ATTRIBUTE", "VALUE"), [(key, repr(value)) for key, value in found.attributes.items()])


@app.command()
def history(
    unit: Annotated[str | None, typer.Argument(metavar="[UNIT]", help="A unit's id; without it, of all units.")] = None,
    *,
    instance: Annotated[str | None, typer.Option("--instance", help="Only of it; without UNIT.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only by them; without UNIT.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="24h, 7d or a time; without UNIT.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="As --since, and not part of it.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries of a unit's history, or entries of all units by time; oldest first."""
    if unit is not None and not (instance is actor is since is until is cursor is None):
        raise Invalid("--instance, --actor, --since, --until and --cursor go without a unit")
    unit_id = None if unit is None else row_id(unit, what="a unit of work")
    begin, end = moment(since, option="--since"), moment(until, option="--until")

    async def read() -> Any:
        """The entries."""
        from perdure.domain.records import Page  # noqa: PLC0415 - see above

        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant
        ) as acme:
            if unit_id is not None:
                return Page(items=tuple(await acme.work.get_history(unit_id, limit, newest=True)))
            return await acme.work.history(
                instance=instance, actor=actor, since=begin, until=end, cursor=cursor, limit=limit
            )

    page = asyncio.run(read())
    if as_json:
        output.print_json(output.page_fields(page))
        return
    columns: tuple[str, ...] = ("#", "EVENT", "FROM", "TO", "INTERACTION", "ACTOR", "WHEN", "HASH", "REASONING")
    rows = [_entry_cells(entry) for entry in page.items]
    if unit is None:
        columns, rows = ("UNIT", *columns), [(one.unit_id, *row) for one, row in zip(page.items, rows, strict=True)]
    output.print_table(columns, rows)
    output.print_page_end(page, nothing="no history")


@app.command()
def verify(
    unit: UnitId,
    *,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", help="What `perdure work anchor` printed, or @FILE that holds it.", metavar="ANCHOR"),
    ] = None,
    key: Key = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify a unit and its history; exits with 1 unless both are what was written."""
    unit_id = row_id(unit, what="a unit of work")
    kept = _anchor(anchor)

    async def read() -> WorkVerification:
        """What there is to say."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant, work_key=key
        ) as acme:
            return await acme.work.verify(unit_id, anchor=kept)

    found = asyncio.run(read())
    if as_json:
        output.print_json(_verification_fields(found))
    else:
        output.print_facts(
            {
                "check": found.check,
                "reason": found.reason,
                "entries": found.entries,
                "first bad entry": found.first_bad,
                "fields": ", ".join(found.fields),
                "anchor": found.anchor,
            }
        )
        output.print_table(
            ("ATTRIBUTE", "DRIFT", "EXPECTED", "FOUND", "EXPECTED DIGEST", "FOUND DIGEST"),
            [_drift_cells(drift) for drift in found.attributes],
        )
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def anchor(
    unit: UnitId,
    *,
    key: Key = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify a unit and print the anchor to keep somewhere else; exits with 1 if there is nothing to vouch for."""
    unit_id = row_id(unit, what="a unit of work")

    async def read() -> WorkVerification:
        """What is to be vouched for."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant, work_key=key
        ) as acme:
            return await acme.work.verify(unit_id)

    found = asyncio.run(read())
    if found.anchor is None:
        typer.echo(f"perdure: {found.check}: {found.reason}; there is no anchor of it", err=True)
        raise typer.Exit(1)
    if as_json:
        output.print_json({"anchor": str(found.anchor), **_anchor_fields(found)})
        return
    typer.echo(str(found.anchor))


@app.command()
def sweep(
    *,
    older_than_s: Annotated[
        float, typer.Option("--older-than-s", help="ACTIVE units without a sign of life for so long.")
    ] = 300.0,
    retries_max: Annotated[int, typer.Option("--retries-max", help="Tried again so often, a unit is dead.")] = 3,
    approval_s: Annotated[
        float, typer.Option("--approval-s", help="Units that wait for an approval for so long.")
    ] = 300.0,
    key: Key = None,
    tenant: TenantName = None,
    data_dir: DataDir = DATA_DIR_DEFAULT,
    dsn: Dsn = None,
    mode: Mode = None,
    env: Env = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take units from owners that give no sign of life: ZOMBIED_SOFT, then ZOMBIED_DEAD."""

    async def write() -> Any:
        """One sweep."""
        async with opened_tenant(
            data_dir=data_dir, dsn=dsn, mode=mode, env=env, settings=settings, tenant=tenant, work_key=key
        ) as acme:
            return await acme.work.sweep(older_than_s=older_than_s, retries_max=retries_max, approval_s=approval_s)

    done = asyncio.run(write())
    if as_json:
        output.print_json(done)
        return
    typer.echo(
        f"{len(done.zombied)} without a sign of life, {len(done.overdue)} without an answer, {len(done.dead)} dead, "
        f"{done.missed} moved by others"
    )


def _unit_cells(unit: WorkUnit) -> tuple[object, ...]:
    return (
        unit.unit_id,
        unit.instance_id,
        unit.schema,
        unit.status,
        unit.version,
        unit.lease_owner,
        unit.heartbeat_at,
        unit.updated_at,
    )


def _entry_cells(entry: HistoryEntry) -> tuple[object, ...]:
    return (
        entry.sequence,
        entry.event,
        entry.previous_status,
        entry.new_status,
        entry.new_interaction_id,
        entry.actor_id,
        entry.transition_timestamp,
        entry.entry_hash[:_HASH_CHARS],
        entry.reasoning,
    )


def _drift_cells(drift: AttributeDrift) -> tuple[object, ...]:
    return (
        drift.key,
        drift.kind,
        drift.expected_version,
        drift.found_version,
        (drift.expected_digest or "")[:_HASH_CHARS],
        (drift.found_digest or "")[:_HASH_CHARS],
    )


def _verification_fields(found: WorkVerification) -> dict[str, Any]:
    from perdure.domain.typed_values import to_json  # noqa: PLC0415 - see above

    def drift_fields(drift: AttributeDrift) -> dict[str, Any]:
        """A drift as JSON."""
        named = {name: getattr(drift, name) for name in drift.__slots__}
        return {**named, "previous": to_json(drift.previous), "current": to_json(drift.current)}

    return {
        "unit_id": found.unit_id,
        "instance_id": found.instance_id,
        "check": found.check,
        "reason": found.reason,
        "entries": found.entries,
        "first_bad": found.first_bad,
        "fields": found.fields,
        "attributes": [drift_fields(drift) for drift in found.attributes],
        "anchor": None if found.anchor is None else str(found.anchor),
    }


def _anchor_fields(found: WorkVerification) -> dict[str, Any]:
    anchored = found.anchor
    assert anchored is not None, "it was asked before"
    return {name: getattr(anchored, name) for name in anchored.__slots__}


def _anchor(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise Invalid(f"the anchor in {text[1:]} cannot be read: {exc}") from exc
