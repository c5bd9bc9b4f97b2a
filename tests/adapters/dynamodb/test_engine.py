"""The local engine is for this machine only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.dynamodb import DynamoDbServer

LISTENING = "0A"
LOOPBACK = {
    "0100007F",  # 127.0.0.1
    "0000000000000000FFFF00000100007F",  # the same, for sockets that speak both protocols
}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel the way Linux answers")
def test_nobody_from_outside_reaches_the_local_engine(dynamodb_server: DynamoDbServer) -> None:
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            address, port = line.split()[1].split(":")
            if line.split()[3] == LISTENING and int(port, 16) == dynamodb_server.port:
                listening.add(address)
    assert len(listening) == 1
    assert listening <= LOOPBACK
