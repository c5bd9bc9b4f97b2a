"""Effects delivered over HTTP, signed as Standard Webhooks asks."""

from __future__ import annotations
