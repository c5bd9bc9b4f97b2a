"""Documents in Azure Cosmos DB (the API for NoSQL)."""

from __future__ import annotations
