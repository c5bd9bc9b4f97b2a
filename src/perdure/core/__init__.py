"""The plane itself: it knows ports and values, never an adapter."""

from __future__ import annotations
