"""Objects in memory, in a directory and in the object stores of clouds, through one client for all of them."""

from __future__ import annotations
