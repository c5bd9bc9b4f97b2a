"""Implementations of the ports; only compose imports them, and they do not know each other."""

from __future__ import annotations
