"""What holds for every test: the caller's settings do not reach it, and GPU tests are skipped where there is none."""

from __future__ import annotations

import os

import hypothesis
import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes share the cores: with threads of their own they would only stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine pauses at any moment: how long one example took says nothing.
hypothesis.settings.register_profile("repro", parent=hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("repro")


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """``REPRO_WORK`` and its like, set in the caller's shell, must not decide where a test reads and writes."""
    for name in [name for name in os.environ if name.startswith("REPRO_")]:
        monkeypatch.delenv(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_tests:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
