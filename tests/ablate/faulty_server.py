"""A real MLflow server, and a proxy before it that loses, delays or breaks what passes, on 127.0.0.1."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PASS, ERROR, DROP = "pass", "500", "drop"
Fault = Callable[[bytes], str | float]  # a request (line and body) -> what becomes of it; a number: seconds late


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """`mlflow server` over a store in a folder, or at a URL; killed, stopped and continued as a whole."""

    def __init__(self, folder: Path, store: str = ""):
        self.folder, self.port, self.process = folder, free_port(), None
        self.database = folder / "server.db"
        self._store = store or f"sqlite:///{self.database}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--artifacts-destination", str(self.folder / "served")]
        # Not an argument: whoever lists processes would see the password.
        quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_BACKEND_STORE_URI": self._store}
        self.process = subprocess.Popen(command, cwd=self.folder, env=quiet, start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it answers; at most two minutes."""
        end = time.monotonic() + 120
        while not self.healthy():
            assert self.process.poll() is None and time.monotonic() < end
            time.sleep(0.2)

    def send(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)
        if number is signal.SIGKILL:
            self.process.wait()

    def healthy(self) -> bool:
        """Whether it answers within half a second."""
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=0.5).status == 200
        except OSError:
            return False


class Proxy:
    """Passes requests on to a server, but for what `fault` makes of them; counts them by what became of them."""

    def __init__(self, server: Server):
        self.fault: Fault = lambda request: PASS
        self.counts: dict[str, int] = {}
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fate = proxy.fault(f"{self.command} {self.path}\n".encode() + body)
                name = "delay" if isinstance(fate, int | float) else fate
                proxy.counts[name] = proxy.counts.get(name, 0) + 1
                if name == "delay":
                    time.sleep(fate)
                if fate == ERROR:
                    return self.answer(500, [], b"out of order")
                status, headers, content = self.passed_on(body)
                if fate == DROP:
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                return self.answer(status, headers, content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                there = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                kept = {name: text for name, text in self.headers.items() if name.lower() not in ("host", "connection")}
                try:
                    there.request(self.command, self.path, body, kept)
                    reply = there.getresponse()
                    return reply.status, reply.getheaders(), reply.read()
                except OSError:
                    return 502, [], b"the server is away"
                finally:
                    there.close()

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response(status)
                for name, text in headers:
                    if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                        self.send_header(name, text)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def first_reply_lost() -> Fault:
    """Every request does its work, and its reply is lost unless the very same was asked before.

    Names that MLflow draws anew for a picture each time are no difference.
    """
    seen: set[str] = set()

    def fate(request: bytes) -> str:
        known = hashlib.sha256(re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}", b"drawn", request)).hexdigest()
        lost = known not in seen
        seen.add(known)
        return DROP if lost else PASS

    return fate
