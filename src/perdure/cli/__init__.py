"""The perdure command."""

from __future__ import annotations
