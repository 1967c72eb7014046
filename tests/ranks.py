"""Several ranks on this machine, forked from a process that has already imported torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 120.0
"""Time after which ranks that wait for each other are killed."""


def on_ranks(num_ranks: int, task: Callable[..., Any], *arguments: object) -> list[Any]:
    """Return the result of ``task(*arguments)`` on each rank of a process group.

    The task must be a module's function; each rank is a process with one thread.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "repro.engine.run", "repro.config.compose", task.__module__])
    port = free_port()
    pipes, processes = [], []
    for rank in range(num_ranks):
        mine, theirs = context.Pipe(duplex=False)
        processes.append(context.Process(target=_rank, args=(rank, num_ranks, port, theirs, task, arguments)))
        processes[-1].start()
        theirs.close()
        pipes.append(mine)
    try:
        results = [_result(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    errors = [f"rank {rank}: {text}" for rank, (text, _) in enumerate(results) if text]
    if errors:
        raise AssertionError("\n".join(errors))
    return [pickle.loads(value) for _, value in results]


def _result(pipe: Connection) -> tuple[str, bytes]:
    if not pipe.poll(SECONDS):
        return "did not end", b""
    try:
        text, value = pipe.recv()
    except EOFError:
        return "ended without a result", b""
    return text, value


def _rank(
    rank: int, num_ranks: int, port: int, pipe: Connection, task: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    import torch

    from repro.runtime import distributed

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        with distributed.joined("cpu") if num_ranks > 1 else contextlib.nullcontext():
            # The whole result is pickled, because torch would send tensors as handles of a process that ends.
            value = pickle.dumps(task(*arguments))
        pipe.send(("", value))
    except BaseException:
        pipe.send((traceback.format_exc(), b""))
        os._exit(1)


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
