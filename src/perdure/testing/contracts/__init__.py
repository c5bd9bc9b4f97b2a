"""One class for each port; a backend's test file only says how to open it."""

from __future__ import annotations
