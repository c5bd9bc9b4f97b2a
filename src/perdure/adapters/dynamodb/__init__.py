"""Documents in an Amazon DynamoDB table."""

from __future__ import annotations
