"""Documents in one SQLite file: durable, for the processes of one machine, with nothing to install."""

from __future__ import annotations
