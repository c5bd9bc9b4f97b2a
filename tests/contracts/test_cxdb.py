"""The contract of turns on CXDB's protocol: our server's two profiles, and any live server that is named."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import ClassVar

import pytest

from perdure.adapters.cxdb.backend import CxdbAddress
from perdure.adapters.cxdb.endpoint import parse_endpoint
from perdure.adapters.cxdb.http import HttpAddress
from perdure.adapters.cxdb.server import Profile
from perdure.adapters.cxdb.turns import Keys
from perdure.ports.turns import TurnStore
from perdure.testing.contracts import TurnsContract
from tests.contracts.cxdb_servers import BundlesOfOneTest, OnOurServer, TurnsOnCxdb, WithBundles

LIVE = os.environ.get("PERDURE_TEST_CXDB", "")  # host:port, or host:port,http://host:port


class TestTurnsOnCxdbImproved(OnOurServer, TurnsContract):
    profile = Profile.IMPROVED


class TestTurnsOnCxdbStrict(OnOurServer, TurnsContract):
    profile = Profile.STRICT
    keys: ClassVar[Keys] = "memory"
    keeps_keys: ClassVar[bool] = False


@pytest.mark.skipif(not LIVE, reason="PERDURE_TEST_CXDB names no server")
class TestTurnsOnLiveCxdb(TurnsOnCxdb, TurnsContract):
    """A server of others, which has its turns for ever: one that may be thrown away."""

    keys: ClassVar[Keys] = "memory"
    keeps_keys: ClassVar[bool] = False

    async def serve(self, stack: AsyncExitStack) -> CxdbAddress:
        """The one that is named."""
        del stack
        binary, _, http = LIVE.partition(",")
        return CxdbAddress(binary=parse_endpoint(binary), http=HttpAddress(base_url=http) if http else None)

    async def open_turns(self) -> TurnStore:
        """A client for which no bundle was published before this test."""
        return WithBundles(turns := await super().open_turns(), BundlesOfOneTest(turns))
