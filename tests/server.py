"""A local HTTP server with files, ranges, and faults on order; it counts what it sends."""

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_BLOCK = 1 << 14


@dataclass(frozen=True)
class Fault:
    """Difference between one answer and a good one.

    Args:
        status: instead of 200 or 206; the body is then empty.
        headers: more headers, or others.
        body: other bytes.
        cut_after: bytes of the body after which the connection ends.
        late_s: seconds of silence before the answer.
        silent_s: seconds of silence after the last byte of the body.
        ranges: False for a server that does not know ranges and gives no version.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut_after: int | None = None
    late_s: float = 0.0
    silent_s: float = 0.0
    ranges: bool = True


@dataclass
class Server:
    """Files by path, and the faults of the next answers for each, in turn; the ones in ``always`` stay."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of every request
    sent: list[int] = field(default_factory=list)  # bytes of every body
    at_once: int = 0  # connections at work
    most_at_once: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, path: str) -> Fault:
        """The fault of this answer, if any."""
        with self.lock:
            waiting = self.faults.get(path)
            return waiting.pop(0) if waiting else self.always.get(path, Fault())


class _Handler(BaseHTTPRequestHandler):
    ours: Server

    def do_GET(self) -> None:
        with self.ours.lock:
            self.ours.asked.append((self.path, self.headers["Range"]))
            self.ours.at_once += 1
            self.ours.most_at_once = max(self.ours.most_at_once, self.ours.at_once)
        with contextlib.suppress(ConnectionError):
            self._answer(self.ours.fault(self.path))
        with self.ours.lock:
            self.ours.at_once -= 1

    def _answer(self, fault: Fault) -> None:
        self.ours.over.wait(fault.late_s)
        body = fault.body if fault.body is not None else self.ours.files.get(self.path)
        if fault.status or body is None:
            self.send_response(fault.status or 404)
            self._finish_headers({"Content-Length": "0", **fault.headers})
            return
        start, status, headers = 0, 200, {"Content-Type": "application/octet-stream"}
        if fault.ranges:
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if asked and self.headers["If-Range"] in {None, headers["ETag"]}:
                start, status = int(asked[1]), 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(status)
        self._finish_headers({**headers, "Content-Length": str(len(body) - start), **fault.headers})
        self._send_body(body[start:], fault)

    def _finish_headers(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send_body(self, body: bytes, fault: Fault) -> None:
        if fault.cut_after is not None:
            body = body[: fault.cut_after]
        with self.ours.lock:
            number = len(self.ours.sent)
            self.ours.sent.append(0)
        for start in range(0, len(body), _BLOCK):
            block = body[start : start + _BLOCK]
            self.ours.sent[number] += len(block)  # before it is sent: whoever has the last byte may look here at once
            try:
                self.wfile.write(block)
            except ConnectionError:
                self.ours.sent[number] -= len(block)
                raise
        self.wfile.flush()
        self.ours.over.wait(fault.silent_s)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine, as long as the block lasts."""
    handler = type("Handler", (_Handler,), {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.ours = server = Server(f"http://127.0.0.1:{http.server_address[1]}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        http.shutdown()
        http.server_close()
        thread.join()
