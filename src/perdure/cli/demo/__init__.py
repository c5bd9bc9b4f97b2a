"""The main job on real input: the commits of a git repository, triaged by workers of which one is killed half way."""

from __future__ import annotations
