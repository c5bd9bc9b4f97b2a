"""What the ledger costs on this machine, as ratios to floors measured in the same minutes. See README.md."""

from __future__ import annotations
