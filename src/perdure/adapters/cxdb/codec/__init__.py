"""CXDB's binary protocol as values and bytes, in both directions. Nothing here reads, writes or waits."""

from __future__ import annotations
