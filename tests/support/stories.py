"""Small true stories in a ledger: the same invoice is triaged again and again, well or badly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from perdure.compose import open_plane
from perdure.core.plane import Plane, Tenant
from perdure.domain.handles import EffectRef, Run, StepRef, ToolCallRef
from tests.support.databases import Database

ACTOR = "agent:planner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was written, for tests to look for."""

    run: Run
    classify: StepRef
    ocr: ToolCallRef
    mail: EffectRef
    failed: StepRef | None = None


@asynccontextmanager
async def plane_on(database: Database, *, mode: str = "lab", env: str = "dev") -> AsyncIterator[Plane]:
    """A plane on a test's database."""
    async with open_plane(
        database.dsn("app"),
        mode=mode,
        env=env,
        owner_dsn=database.direct_dsn("owner"),
        relay_dsn=database.dsn("relay"),
        listen_dsn=database.direct_dsn("relay"),
        connections_max=4,
        coalesce=False,
    ) as plane:
        yield plane


async def triage(tenant: Tenant, number: int = 42, *, steps: int = 1) -> Story:
    """A run that reads an invoice, classifies it and asks for a mail; it stays RUNNING."""
    run = await tenant.runs.start(
        "invoice-triage",
        signal=("billing", f"msg-{number}"),
        input={"invoice": number},
        entities=[("invoice", str(number))],
    )
    async with tenant.change(run) as change:
        classify = change.step("classify", output={"label": "high"}, duration_ms=12.5)
        ocr = change.tool_call(classify, "ocr", args={"page": 1}, result={"text": "..."}, duration_ms=7)
        mail = change.effect(classify, "SEND_EMAIL", {"to": "cfo@acme.test"}, key="mail")
        for _ in range(steps - 1):
            change.step("look-again", output={})
        change.checkpoint({"label": "high"})
    return Story(run=run, classify=classify, ocr=ocr, mail=mail)


async def failure(tenant: Tenant, number: int = 13) -> Story:
    """A run that fails: a tool call and a step fail, and the mail that was asked for becomes a dead letter."""
    story = await triage(tenant, number)
    async with tenant.change(story.run) as change:
        book = change.step("book", step_type="TOOL_SEQUENCE", input={"account": 4711})
        change.tool_call(book, "erp", args={"account": 4711}, error="account is closed", duration_ms=3)
    async with tenant.change(story.run) as change:
        change.fail(book, error="the booking was refused")
    await tenant.runs.fail(story.run, "BOOKING_REFUSED")
    return Story(run=story.run, classify=story.classify, ocr=story.ocr, mail=story.mail, failed=book)
