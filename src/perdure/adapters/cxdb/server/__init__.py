"""CXDB's binary protocol as a server, over any store of turns."""

from __future__ import annotations

from perdure.adapters.cxdb.server.serving import CxdbServer, serving
from perdure.adapters.cxdb.server.settings import Profile, ServerSettings

__all__ = ["CxdbServer", "Profile", "ServerSettings", "serving"]
