"""A worker that dies by SIGKILL right after its nth commit: python -m tests.faults.killed_worker DSN FILE COMMITS."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import perdure

STEPS = ("fetch", "classify", "decide", "notify", "file")


async def main(dsn: str, file: Path, commits: int) -> None:
    """Claim a run and do what is not done, writing down each step that is really worked on."""
    async with perdure.open(dsn, mode="lab", env="dev") as plane:
        acme = plane.scope("t_acme", actor="agent:worker")
        (run,) = await acme.runs.claim(lease_s=60)
        for name in STEPS:
            if run.done(name) is not None:
                continue
            with file.open("a") as lines:
                lines.write(f"{name}\n")
            async with acme.change(run) as change:
                step = change.step(name, output={"did": name})
                change.tool_call(step, "work", args={"on": name}, result=name)
                change.effect(step, "PAGE_ONCALL", {"about": name}, key="page")
            commits -= 1
            if commits == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        await acme.runs.complete(run)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
