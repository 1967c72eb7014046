"""Sources of CIFAR-10 for tests: a local host that is slow, fails, hangs up or sends something else."""

from __future__ import annotations

import http.server
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from repro.data.cifar import arrays as cifar10
from repro.data.cifar.sources import OfficialArchive, SourceFailedError

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals, users or scripts")


class Host:
    """Serves one file; ``script`` lists its behaviour for each request, and ``always`` is its behaviour afterwards.

    ``gate`` sends 30,000 bytes and the rest when the gate is opened; ``break`` sends 50,000 and hangs up.
    """

    always = "ok"

    def __init__(self, content: bytes) -> None:
        self.content, self.script = content, list[str]()
        self.ranges: list[str | None] = []
        self.gate = threading.Event()
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                host.ranges.append(asked)
                try:
                    host.answer(self, asked, host.script.pop(0) if host.script else host.always)
                except ConnectionError:
                    self.close_connection = True

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{cifar10.ARCHIVE}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler, asked: str | None, act: str) -> None:
        if act == "silent":
            time.sleep(3)
            return
        if act.isdigit():
            handler.send_error(int(act))
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and "no_range" not in act else 0
        if start >= len(self.content):
            handler.send_error(416)
            return
        body = b"x" * len(self.content) if act == "other" else self.content
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        end = start + 50_000 if "break" in act else len(body)
        step = {"slow": 4000, "gate": 30_000}.get(act, 1_000_000)
        for place in range(start, min(end, len(body)), step):
            handler.wfile.write(body[place : min(place + step, end)])
            if act == "slow":
                time.sleep(0.02)
            elif act == "gate":
                self.gate.wait(60)

    def close(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Shelf:
    """A source that writes its content, or fails if it has none."""

    content: bytes | None
    name: str = "the shelf"
    calls: int = 0

    def get(self, downloads: Path) -> Path:
        self.calls += 1
        if self.content is None:
            raise SourceFailedError("it is empty")
        path = downloads / cifar10.NPM_TARBALL
        path.write_bytes(self.content)
        return path


def archive(url: str, **changes: float) -> OfficialArchive:
    """Return the official archive at ``url``, without pauses."""
    return OfficialArchive(url=url, **{"pause_s": 0, **changes})  # type: ignore[arg-type]


def lay_part(root: Path, content: bytes) -> Path:
    """Plant the partial file of a killed fetch."""
    part = root / "cifar10" / "download" / f"{cifar10.ARCHIVE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


def assert_complete(root: Path, arrays: dict[str, np.ndarray]) -> None:
    """Check that the arrays exist and that only the lock is left of the fetch."""
    for name, array in arrays.items():
        np.testing.assert_array_equal(np.load(root / "cifar10" / f"{name}.npy"), array)
    left = {path.name for path in (root / "cifar10").iterdir()} - {".fetch.lock"}
    assert left == {f"{name}.npy" for name in arrays}
