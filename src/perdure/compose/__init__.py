"""The only place that knows adapters: from a configuration to a running plane."""

from __future__ import annotations

from perdure.compose.plane import open_plane

__all__ = ["open_plane"]
