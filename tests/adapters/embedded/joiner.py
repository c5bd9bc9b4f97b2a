"""A program that joins an embedded server, says so, and leaves when told to; for tests that need other processes."""

from __future__ import annotations

import argparse
import asyncio
import codecs
import json
import os
import sys
from pathlib import Path

from perdure.adapters import embedded


async def stay(config: embedded.EmbeddedConfig) -> None:
    server = await embedded.join(config)
    sys.stdout.write(json.dumps({"pid": server.pid, "port": server.port, "euid": os.geteuid()}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    await embedded.leave(server)


async def load_everything() -> None:
    """Import what asyncio imports late, while the interpreter's files can still be read."""
    for encoding in ("ascii", "idna", "utf-8"):
        codecs.lookup(encoding)
    await asyncio.to_thread(str)
    await (await asyncio.create_subprocess_exec("true")).wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--bin-dir", type=Path)
    parser.add_argument("--uid", type=int)
    given = parser.parse_args()
    if given.uid is not None:
        asyncio.run(load_everything())
        os.setgroups([])
        os.setgid(given.uid)
        os.setuid(given.uid)
    asyncio.run(stay(embedded.EmbeddedConfig(data_dir=given.data_dir, roles=("owner", "app"), bin_dir=given.bin_dir)))


if __name__ == "__main__":
    main()
