"""Proxies between a client and a server, which count what passes and break it on demand: one for HTTP, one for any TCP protocol."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Literal

Fault = Literal["503", "slow", "reset-response", "truncate-upload", "lose-response"]
SLOW_SECONDS = 2.0


class HttpProxy:
    """An HTTP proxy on loopback in front of one server. `fault(method, path)` says how a request is to fail, None: not at all.

    503: refused before the server sees it. slow: passed on after two seconds. truncate-upload: half the body reaches the server, then
    both connections close. reset-response: half the response comes back. lose-response: the server has done it, the client learns nothing.
    """

    def __init__(self, address: str) -> None:
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], Fault | None] = lambda _method, _path: None
        self.faults = Counter[str]()
        self._host, _, port = address.rpartition("://")[2].rpartition(":")
        self._port = int(port)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HttpProxy:
        self._thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def counts(self) -> Counter[str]:
        """How many requests passed since the last `clear`, by method; LIST is a GET of a bucket."""
        return Counter("LIST" if method == "GET" and "list-type" in path else method for method, path in self.requests)

    def clear(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class in a function
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

            def __getattr__(self, name: str) -> Callable[[], None]:
                if name.startswith("do_"):
                    return self.pass_on
                raise AttributeError(name)

            def pass_on(self) -> None:
                proxy.requests.append((self.command, self.path))
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    body = self.read_chunks()
                fault = proxy.fault(self.command, self.path)
                if fault:
                    proxy.faults[fault] += 1
                if fault == "503":
                    self.answer(503, [("Content-Length", "0")], b"")
                    return
                if fault == "slow":
                    time.sleep(SLOW_SECONDS)
                try:
                    status, headers, content = self.ask(body, truncate=fault == "truncate-upload")
                except (OSError, http.client.HTTPException):
                    self.reset()
                    return
                if fault == "lose-response":
                    self.reset()
                elif fault == "reset-response":
                    self.answer(status, headers, content[: len(content) // 2])
                    self.reset()
                else:
                    self.answer(status, headers, content)

            def read_chunks(self) -> bytes:
                parts: list[bytes] = []
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def ask(self, body: bytes, *, truncate: bool) -> tuple[int, list[tuple[str, str]], bytes]:
                upstream = http.client.HTTPConnection(proxy._host, proxy._port, timeout=120)
                try:
                    upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in {"connection", "expect", "transfer-encoding", "content-length"}:
                            upstream.putheader(name, value)
                    if body or self.command in {"PUT", "POST"}:
                        upstream.putheader("Content-Length", str(len(body)))
                    upstream.endheaders()
                    upstream.send(body[: len(body) // 2] if truncate else body)
                    if truncate:
                        raise ConnectionAbortedError
                    response = upstream.getresponse()
                    content = response.read()
                    ours = {"transfer-encoding", "connection", "content-length"}
                    headers = [(name, value) for name, value in response.getheaders() if name.lower() not in ours]
                    length = response.headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
                    return response.status, [*headers, ("Content-Length", length)], content
                finally:
                    upstream.close()

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                with suppress(OSError):
                    self.send_response_only(status)
                    for name, value in headers:
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(content)
                    self.wfile.flush()

            def reset(self) -> None:
                """Close with a TCP reset."""
                self.close_connection = True
                with suppress(OSError):
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.shutdown(socket.SHUT_RDWR)

        return Handler


class TcpProxy:
    """A proxy for any protocol: `cut` breaks every connection and refuses new ones until `mend`, `stall` lets nothing pass. With
    `cut_once` set, the first message that holds those bytes still reaches the server, and its answer is lost with the connection.
    """

    def __init__(self, host: str, port: int) -> None:
        self.cut_once: bytes | None = None
        self.accepted = 0
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open, self._flowing = threading.Event(), threading.Event()
        self._open.set()
        self._flowing.set()

    def __enter__(self) -> TcpProxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.cut()
        self._flowing.set()
        self._listener.close()

    def cut(self) -> None:
        """Break what is open and refuse what comes."""
        self._open.clear()
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RDWR)
                    end.close()
        self._pairs.clear()

    def stall(self) -> None:
        """Let no byte pass, with the connections open."""
        self._flowing.clear()

    def mend(self) -> None:
        """Let everything pass again."""
        self._open.set()
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if not self._open.is_set():
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._pairs.append((client, server))
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
                if self.cut_once is not None and self.cut_once in data:
                    self.cut_once = None
                    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    source.close()
                    time.sleep(0.5)  # the server does what it was told
                    break
        for end in (source, target):
            with suppress(OSError):
                end.close()
