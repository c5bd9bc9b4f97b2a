"""Every port of the routed kinds, written once over a document driver. Nothing here knows which engine it is on."""

from __future__ import annotations
