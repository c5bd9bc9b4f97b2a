"""What the plane needs of each kind, as Protocols; each sentence of their docstrings has a contract test."""

from __future__ import annotations
