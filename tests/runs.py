"""Small runs at smoke scale, ways to stop them, and comparisons of their weights."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import torch

from repro.config.compose import plan
from repro.config.run import RunConfig
from repro.runtime import checkpoint
from repro.runtime.stop import Stopper


def configs(folder: Path, *words: str) -> list[RunConfig]:
    """Compose the runs of ``words`` at smoke scale on synthetic data, with all paths inside ``folder``."""
    given = {word.partition("=")[0] for word in words}
    defaults = {
        "data": "synthetic",
        "scale": "smoke",
        "execution.threads": "1",
        "execution.progress": "none",
        "device": "cpu",
        "paths.data": folder / "data",
        "paths.work": folder / "work",
        "paths.results": folder / "results",
    }
    return plan([*words, *(f"{key}={value}" for key, value in defaults.items() if key not in given)]).runs


def config(folder: Path, *words: str) -> RunConfig:
    (only,) = configs(folder, *words)
    return only


def photo_config(folder: Path, *words: str) -> RunConfig:
    """Compose a run of a small net on small crops of the ImageNet images in the data folder."""
    given = {word.partition("=")[0] for word in words}
    defaults = (
        *("model=imagenet_resnet", "model.depth=18", "optim=imagenet_sgd", "eval=imagenet", "eval.scales=[32,48]"),
        *("data=imagenet", "data.partial=true", "data.train_images=null", "data.test_images=null"),
        *("data.image_size=32", "data.resize=[32,48]", "data.eval_resize=40", "execution.workers=0"),
    )
    return config(folder, *words, *(word for word in defaults if word.partition("=")[0] not in given))


@contextlib.contextmanager
def full_disk(left: int = 100) -> Iterator[None]:
    """Limit the size of files that this process writes, as on a full disk."""
    before, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


class StopAfter(Stopper):
    """Asks to stop after so many checks; never if ``times`` is None."""

    def __init__(self, times: int | None) -> None:
        super().__init__(None)
        self.times = times

    def asked(self) -> bool:
        if self.times is None:
            return False
        self.times -= 1
        return self.times < 0


def weights(of: RunConfig) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = checkpoint.load(of.work_dir / checkpoint.FINAL)["model"]
    return stored


def same_weights(one: RunConfig, two: RunConfig) -> bool:
    first, second = weights(one), weights(two)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
