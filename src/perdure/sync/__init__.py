"""The same plane without await; generated from the async one."""

from __future__ import annotations
