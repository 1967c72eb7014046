"""Fixtures of all tests, and the marker ``gpu``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    import numpy as np

    from tests.hosts import Host

if "PYTEST_XDIST_WORKER" in os.environ:
    # Test processes share the cores, so several threads in each would only compete.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine can pause at any moment, so the time of one example says nothing.
hypothesis.settings.register_profile("repro", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("repro")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove ``REPRO_WORK`` and similar variables, which would change where a test reads and writes."""
    for name in [name for name in os.environ if name.startswith("REPRO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Collect the lines for the user that modules log while the test runs."""
    from tests.lines import logged

    with logged() as lines:
        yield lines


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Make the arrays of a tiny CIFAR-10, whose digests count as known while the test runs."""
    from tests.tiny_cifar10 import use_tiny

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # the host of all sources in tests
    return use_tiny(monkeypatch)


@pytest.fixture
def host(arrays: dict[str, np.ndarray]) -> Iterator[Host]:
    """Start a server on this machine with the official archive of the tiny CIFAR-10."""
    from tests.hosts import Host
    from tests.tiny_cifar10 import official_archive

    served = Host(official_archive(arrays))
    yield served
    served.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
