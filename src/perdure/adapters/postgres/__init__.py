"""The ledger on PostgreSQL 15 and later."""

from __future__ import annotations
