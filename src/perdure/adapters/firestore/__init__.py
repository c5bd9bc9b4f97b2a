"""Documents in Google Cloud Firestore, in native mode."""

from __future__ import annotations
