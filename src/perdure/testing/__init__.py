"""What users need to prove their own backends and programs: contracts, faults, clocks."""

from __future__ import annotations
