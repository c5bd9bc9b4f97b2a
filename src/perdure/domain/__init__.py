"""Values and rules: no I/O, no waiting, no clock, no chance."""

from __future__ import annotations
