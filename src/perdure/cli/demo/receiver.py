"""The other side: a webhook receiver on loopback that tells repeats by their idempotency key, in a process of its own.

What it received is in a journal that is synced before the answer, so that it can be compared with the ledger: neither
side takes the other's word for anything.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import hmac
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time
from typing import Any, Final

import msgspec

from perdure.cli.demo.tether import tie_to_parent

JOURNAL: Final = "received.jsonl"
SECRET: Final = "signing-secret"  # noqa: S105 - the name of a file
BODY_BYTES_MAX: Final = 1_048_576
TOLERANCE_S: Final = 300  # what Standard Webhooks recommends against replays
KEY_HEADER: Final = "Idempotency-Key"
_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverTask:
    """What the receiver is started with. It forgets to answer ``answers_lost`` times, after keeping what it got."""

    directory: str
    port: int = 0
    answers_lost: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One line of the journal: a delivery that was authentic; ``repeated`` if its key had been there before."""

    key: str
    repeated: bool
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What the journal says."""

    keys: frozenset[str] = frozenset()
    repeated: int = 0


def read_journal(directory: Path) -> Received:
    """Everything that was ever received; a line that a killed receiver left half written was never answered."""
    path = directory / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    receipts = [msgspec.json.decode(line, type=Receipt) for line in lines if line.endswith(b"\n") and line.strip()]
    return Received(
        keys=frozenset(receipt.key for receipt in receipts),
        repeated=sum(receipt.repeated for receipt in receipts),
    )


class Journal:
    """Appends receipts; used by all threads of the server."""

    def __init__(self, directory: Path, *, answers_lost: int) -> None:
        self._keys = set(read_journal(directory).keys)
        self._answers_to_lose = answers_lost
        self._lock = threading.Lock()
        self._file = (directory / JOURNAL).open("ab")
        if self._file.tell():
            self._file.write(b"\n")  # ends what may be half a line

    def keep(self, key: str) -> Receipt:
        """Keep a delivery durably; tells whether it is a repeat, and whether to answer."""
        with self._lock:
            repeated = key in self._keys
            forgets = not repeated and self._answers_to_lose > 0
            self._answers_to_lose -= forgets
            receipt = Receipt(key=key, repeated=repeated, answered=not forgets)
            self._file.write(msgspec.json.encode(receipt) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._keys.add(key)
            return receipt


def verified(headers: Mapping[str, str], body: bytes, *, secret: str, now_s: float) -> bool:
    """Whether a call carries a Standard Webhooks signature (``v1``) made with ``secret``, for this body, just now."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent_at.isascii() and sent_at.isdigit()) or abs(now_s - int(sent_at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.new(key, f"{message_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    for signature in headers.get("webhook-signature", "").split():
        version, _, given = signature.partition(",")
        try:
            if version == "v1" and hmac.compare_digest(base64.b64decode(given, validate=True), expected):
                return True
        except (binascii.Error, ValueError):
            continue
    return False


class Handler(BaseHTTPRequestHandler):
    """Answers one connection. 401 without a signature, 400 without a key, 200 for a delivery, also for a repeat."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    server: Receiver

    def do_POST(self) -> None:
        """Receive one delivery."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._answer(413, {"error": f"a body of known length, at most {BODY_BYTES_MAX} bytes, is expected"})
            return
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if not verified(headers, body, secret=self.server.secret, now_s=time()):
            self._answer(401, {"error": "the signature is missing, wrong or old"})
            return
        key = headers.get(KEY_HEADER.lower(), "")
        if not key:
            self._answer(400, {"error": f"{KEY_HEADER} is missing"})
            return
        receipt = self.server.journal.keep(key)
        if receipt.answered:
            self._answer(200, {"repeated": receipt.repeated})
        else:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that is overridden
        """Keep quiet: the journal says it."""

    def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
        body = msgspec.json.encode(answer)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass(slots=True, kw_only=True)
class _Kept:
    secret: str = field(repr=False)
    journal: Journal


class Receiver(ThreadingHTTPServer):
    """The server, on loopback only."""

    daemon_threads = True

    def __init__(self, port: int, *, secret: str, journal: Journal) -> None:
        self._kept = _Kept(secret=secret, journal=journal)
        super().__init__((_HOST, port), Handler)

    @property
    def secret(self) -> str:
        """What deliveries are signed with."""
        return self._kept.secret

    @property
    def journal(self) -> Journal:
        """Where they are kept."""
        return self._kept.journal

    def server_bind(self) -> None:
        """Bind without asking the network what loopback is called, which takes seconds where nobody answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _HOST, self.server_address[1]


def open_receiver(task: ReceiverTask) -> Receiver:
    """A receiver on the port that was asked for, or on another one when somebody else has that."""
    directory = Path(task.directory)
    secret = (directory / SECRET).read_text().strip()
    journal = Journal(directory, answers_lost=task.answers_lost)
    try:
        return Receiver(task.port, secret=secret, journal=journal)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or task.port == 0:
            raise
    return Receiver(0, secret=secret, journal=journal)


def main() -> None:
    """Receive until the parent is gone; says on stdout which port it is."""
    tie_to_parent()
    receiver = open_receiver(msgspec.json.decode(sys.argv[1], type=ReceiverTask))
    print(msgspec.json.encode({"port": receiver.server_port}).decode(), flush=True)  # noqa: T201 - to the parent
    receiver.serve_forever()


if __name__ == "__main__":
    main()
