"""An HTTP proxy on loopback that harms requests at a seeded rate: what a bad day of an object store looks like.

    with FaultProxy("http://127.0.0.1:9000", rate=0.1, seed=7) as proxy: ...   # AWS_ENDPOINT_URL=proxy.url

Reads (GET, HEAD) and writes (PUT, POST, DELETE) meet 503 SlowDown, connection resets before the request arrives, resets
after it was carried out (an outcome nobody knows), bodies cut in the middle, answers that never come, and delays.
"""

import http.client
import http.server
import random
import socket
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

READ_FAULTS = ("slow down", "reset", "truncate", "time-out", "latency")
WRITE_FAULTS = ("slow down", "reset", "reset after", "time-out", "latency")
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultProxy:
    """Forwards to `upstream`; a share `rate` of the requests is harmed, all of them once `fail_after` have come."""

    def __init__(
        self, upstream: str, *, rate: float = 0.0, seed: int = 0, fail_after: int | None = None, hang: float = 5.0
    ) -> None:
        self.upstream, self.rate, self.seed, self.fail_after, self.hang = upstream, rate, seed, fail_after, hang
        self.requests, self.counts, self.lock = 0, Counter[str](), threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"proxy": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method: str) -> str:
        """What happens to the next request: "" or the name of a fault; the same sequence for the same seed."""
        with self.lock:
            self.requests += 1
            draw = random.Random(f"{self.seed}/{self.requests}")
            down = self.fail_after is not None and self.requests > self.fail_after
            if not down and draw.random() >= self.rate:
                return ""
            kind = "slow down" if down else draw.choice(READ_FAULTS if method in ("GET", "HEAD") else WRITE_FAULTS)
            self.counts[kind] += 1
            return kind


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.proxy.fault(self.command)
        if fault == "slow down":
            return self.answer(503, SLOW_DOWN, {"Content-Length": str(len(SLOW_DOWN))})
        if fault == "reset":
            return self.drop()
        if fault == "time-out":
            time.sleep(self.proxy.hang)
            return self.drop()
        if fault == "latency":
            time.sleep(0.3)
        status, data, headers = self.ask(body)
        if fault == "reset after":
            return self.drop()
        self.answer(status, data[: len(data) // 2] if fault == "truncate" else data, headers)
        if fault == "truncate":
            self.drop()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward

    def ask(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        """The server's own answer."""
        connection = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body, headers)
        response = connection.getresponse()
        data = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in ("date", "server")}
        if self.command != "HEAD":
            kept = {name: value for name, value in kept.items() if name.lower() != "content-length"}
            kept["Content-Length"] = str(len(data))
        connection.close()
        return response.status, data, kept

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data)

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):  # the client gave up first
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        pass
