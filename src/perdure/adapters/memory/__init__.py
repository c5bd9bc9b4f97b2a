"""Documents in the memory of this process: for tests, and for what may be forgotten."""

from __future__ import annotations
