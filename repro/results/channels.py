"""The stored likeness of a net's channels from block to block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from repro.config.parse import require
from repro.results.beside import Beside, Measured

IMAGES = 1000
TOP = 6
"""The test images, from the first, and the number of strongest ones, which claims and figures compare."""
PICTURES = "visualizations"
"""The name of the folder of pictures in the work folder."""


@dataclass(frozen=True)
class Likeness:
    """The likeness of the images of channels in neighbouring blocks of a stage, on average over channels and blocks.

    ``overlap`` is the share of the top images of a channel that are also those of the channel in the next block, and
    ``correlation`` the rank correlation of its responses to all images. ``other_overlap`` and ``other_correlation`` are
    the same with all other channels of the next block: where few images excite a whole net, any two channels are alike.
    """

    stage: int
    blocks: int
    channels: int
    top: int
    images: int
    overlap: float
    correlation: float
    other_overlap: float
    other_correlation: float


@dataclass(frozen=True)
class Channels(Measured):
    """The likeness of the channels in each stage of a run's final net."""

    stages: tuple[Likeness, ...]

    def by_stage(self, what: str) -> Mapping[int, float]:
        """Return a value of ``Likeness`` by stage.

        Raises:
            InputError: The net was compared on other images than those of the claims.
        """
        for one in self.stages:
            require(
                (one.images, one.top) == (IMAGES, TOP),
                f"its channels were compared in {one.images:,} images and the top {one.top}, instead of {IMAGES:,} and "
                f"{TOP} (repro visualize)",
            )
        return {one.stage: getattr(one, what) for one in self.stages}

    def mean(self, what: str) -> float:
        """Return a value of ``Likeness``, on average over stages.

        Raises:
            InputError: The net was compared on other images than those of the claims.
        """
        found = self.by_stage(what).values()
        return sum(found) / len(found)


def _check(found: Channels) -> None:
    require(len(found.stages) > 0, "stages is empty")
    for one in found.stages:
        require(0 < one.top <= one.images, f"top={one.top} among images={one.images}")
        for name, least in (("overlap", 0), ("other_overlap", 0), ("correlation", -1), ("other_correlation", -1)):
            value = getattr(one, name)
            require(least <= value <= 1, f"{name}={value} must be at least {least} and at most 1")
    numbers = [one.stage for one in found.stages]
    require(numbers == sorted(set(numbers)), f"stages={numbers} must rise")


CHANNELS = Beside("channels.json", 2, Channels, "repro visualize", _check)
"""The files, each in the folder of its run."""
