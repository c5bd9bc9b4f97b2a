"""The backends of this release: one module each, found by its place. Adding one touches nothing else in here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from perdure.adapters.postgres.session import Session
from perdure.ports.backend import BackendSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Lent:
    """What the plane lends to backends: the connections to its own database."""

    session: Session


def backend_specs(lent: Lent) -> Mapping[str, BackendSpec]:
    """Every backend by its name. A module here defines ``spec(lent)``."""
    found: dict[str, BackendSpec] = {}
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        make: Callable[[Lent], BackendSpec] = importlib.import_module(module.name).spec
        made = make(lent)
        found[made.name] = made
    return found
