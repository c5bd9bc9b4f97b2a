"""Typed records: what the payload of a turn holds, from one table a type; pure values and rules."""

from __future__ import annotations
