"""Worker processes: pickled requests in, pickled messages out."""

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from repro.runtime.output import steady


class Process:
    """A Python process that runs ``serve`` of a module; it receives requests and sends messages, pickled.

    Args:
        environment: Variables to add to those of this process.
        receive: Called by a thread with each message, and with None after the last.
    """

    def __init__(
        self, module: str, words: Sequence[str], environment: Mapping[str, str], receive: Callable[[Any | None], None]
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "repro.launch.process", module, str(os.getpid()), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | environment,
            start_new_session=True,  # Ctrl-C goes only to the parent, which decides how this process ends
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, messages = self._process.stdin, self._process.stdout
        threading.Thread(target=listen, args=(messages, receive), daemon=True).start()

    def send(self, request: object) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which the end of its messages reports
            pickle.dump(request, self._requests)
            self._requests.flush()

    def close(self) -> None:
        """Close the stream of requests, which asks the process to end."""
        with contextlib.suppress(OSError):  # the buffer still has an unwritten request
            self._requests.close()

    def kill(self) -> None:
        """Kill the process and all that it started, without waiting, so that a signal handler may call this."""
        if self._process.returncode is None:
            with contextlib.suppress(OSError, AttributeError):  # it has ended, or the system has no groups
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def wait(self) -> int:
        """Wait for the end; return the exit code, negative for a signal."""
        self.close()
        return self._process.wait()


def listen(messages: IO[bytes], receive: Callable[[Any | None], None]) -> None:
    """Pass every message to ``receive``, and None at the end."""
    with messages:
        for message in unpickled(messages):
            receive(message)
    receive(None)


def unpickled(stream: IO[bytes]) -> Iterator[Any]:
    """Yield the objects of a stream until the process at its other end has ended."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):  # a kill may cut off the last object
        while True:
            yield pickle.load(stream)


def teller() -> Callable[[object], None]:
    """Return a function that sends a message from any thread; redirect other output to standard error."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(message: object) -> None:
        with lock, contextlib.suppress(OSError):  # the parent has ended: the requests end too
            pickle.dump(message, out)
            out.flush()

    return tell


def main(module: str, parent: str, *words: str) -> int:
    """Run ``serve`` of a module with requests, a function that sends messages, the parent's process id and words."""
    steady()
    tell = teller()
    code: int = importlib.import_module(module).serve(unpickled(sys.stdin.buffer), tell, int(parent), words)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
