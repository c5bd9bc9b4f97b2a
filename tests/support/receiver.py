"""A receiver of webhooks on loopback: a real HTTP server that remembers what came and answers as it is told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "Receiver", "Request", "receiving"]

BODY_PIECE = b"x" * 65_536
STREAM_PIECES_MAX = 1_000


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What to say. ``endless`` sends as much body as the other side takes, ``silent`` nothing before the end."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    endless: bool = False
    silent: bool = False


@dataclass
class Receiver:
    """Answers from ``answers`` first, then 200."""

    port: int = 0
    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    body_bytes_sent: int = 0
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def duplicates(self) -> int:
        """How many requests repeated the idempotency key of an earlier one."""
        counts = Counter(request.headers["idempotency-key"] for request in self.requests)
        return sum(counts.values()) - len(counts)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name it has there
            """Say nothing."""

        def handle_one_request(self) -> None:
            """Take any method."""
            self.raw_requestline = self.rfile.readline(65_537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Request(self.command, self.path, headers, body))
            self.answer(receiver.answers.pop(0) if receiver.answers else Answer())

        def answer(self, answer: Answer) -> None:
            """Say it."""
            if answer.silent:
                receiver.closing.wait()
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(BODY_PIECE) * STREAM_PIECES_MAX if answer.endless else len(answer.body)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            try:
                for piece in [BODY_PIECE] * STREAM_PIECES_MAX if answer.endless else [answer.body]:
                    self.wfile.write(piece)
                    receiver.body_bytes_sent += len(piece)
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
