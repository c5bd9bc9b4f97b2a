"""Perdure: the persistence plane for agent systems."""

from __future__ import annotations

__version__ = "0.1.0"
