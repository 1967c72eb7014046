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
    ``correlation`` the rank correlation of its responses to all images. ``by_chance`` is the expected overlap of
    unrelated channels.
    """

    stage: int
    blocks: int
    channels: int
    top: int
    images: int
    overlap: float
    correlation: float

    @property
    def by_chance(self) -> float:
        return self.top / self.images


@dataclass(frozen=True)
class Channels(Measured):
    """The likeness of the channels in each stage of a run's final net."""

    stages: tuple[Likeness, ...]

    def by_stage(self, what: str) -> Mapping[int, float]:
        """Return ``overlap`` or ``correlation`` by stage.

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
        """Return ``overlap`` or ``correlation``, on average over stages.

        Raises:
            InputError: The net was compared on other images than those of the claims.
        """
        found = self.by_stage(what).values()
        return sum(found) / len(found)


def _check(found: Channels) -> None:
    require(len(found.stages) > 0, "stages is empty")
    for one in found.stages:
        require(0 < one.top <= one.images, f"top={one.top} among images={one.images}")
        require(0 <= one.overlap <= 1, f"overlap={one.overlap} must be at least 0 and at most 1")
        require(-1 <= one.correlation <= 1, f"correlation={one.correlation} must be at least -1 and at most 1")
    numbers = [one.stage for one in found.stages]
    require(numbers == sorted(set(numbers)), f"stages={numbers} must rise")


CHANNELS = Beside("channels.json", 1, Channels, "repro visualize", _check)
"""The files, each in the folder of its run."""
