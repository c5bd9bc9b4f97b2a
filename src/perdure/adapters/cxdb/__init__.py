"""CXDB, spoken in its own protocol: the codec without I/O, and what speaks it."""

from __future__ import annotations
