"""The platforms that the bundled server runs on: a table, so that a test can read it aloud."""

from __future__ import annotations

from typing import Final

from perdure.errors import Unsupported

SYSTEMS: Final = frozenset({"Linux", "Darwin"})
MACHINES: Final = frozenset({"x86_64", "amd64", "aarch64", "arm64"})


def require_platform(system: str, machine: str) -> None:
    """Return when the embedded server runs on this ``platform.system()`` and ``platform.machine()``.

    Raises ``Unsupported``, naming the way out, on any other.
    """
    if system in SYSTEMS and machine.lower() in MACHINES:
        return
    raise Unsupported(
        f"the embedded PostgreSQL does not run on {system or 'an unknown system'} ({machine or 'unknown machine'}); "
        "it needs Linux or macOS on x86-64 or arm64. Use a server of your own instead: "
        'perdure.open("postgresql://...")',
        code="unsupported_platform",
        system=system,
        machine=machine,
    )
