"""TensorBoard events of a detector's run: losses, average precision, and pictures with boxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from repro.data.detection import Detections
from repro.data.detection.scaled import photo_of, scaled_image
from repro.engine.detection.prepared import PreparedDetector, Training
from repro.engine.detection.testing import as_arrays, find
from repro.evaluation.detection.drawing import above, drawn
from repro.models.detection.rpn import TESTING
from repro.results.detection_record import DetectionResult

IMAGES = 4
"""The first test images, which are shown again and again."""
TIMES = 5
"""Pictures of an image in each step of training, the last at its end."""
LEAST_UPDATES = 50
"""Updates between two pictures of an image: drawing them may take a second."""
LEAST_SCORE = 0.3
STEPS = {
    None: "",
    1: " in step 1",
    # The region proposal network of step 2 is as it was drawn: proposals for training are those of step 1 (D58).
    2: " in step 2 on untrained proposals",
    3: " in step 3",
    4: " in step 4",
}
"""The step of training in the name of a picture: each starts from other weights than the one before left."""
PROPOSALS = 10
"""Proposals of an image that are shown where there is no region head yet."""


class DetectorEvents:
    """Losses, learning rate and speed over the updates of all steps of training, and pictures.

    White boxes in the pictures are the objects that are there.
    """

    def __init__(self, folder: Path, updates: int) -> None:
        # A killed run may have written events after its last checkpoint; they are removed and written again.
        self.writer = SummaryWriter(str(folder), purge_step=updates + 1, max_queue=1000)

    def logged(self, net: Training, losses: dict[str, float], lr: float, images_per_second: float) -> None:
        for name, value in losses.items():
            self.writer.add_scalar(f"loss/{name}", value, net.updates)
        self.writer.add_scalar("schedule/lr", lr, net.updates)
        if images_per_second:
            self.writer.add_scalar("speed/images_per_second", images_per_second, net.updates)

    def pictures(self, net: PreparedDetector) -> None:
        """Show what the present step of training finds in the first test images."""
        split = net.dataset.eval
        kind, classes = ("proposals", ("object",)) if net.step in (1, 3) else ("detections", split.classes)
        for position in range(min(IMAGES, len(split))):
            photo = photo_of(split, position)
            found = proposed(net, position) if kind == "proposals" else as_arrays(find(net, split, position))
            shown = above(found, 0.0 if kind == "proposals" else LEAST_SCORE)
            picture = np.asarray(drawn(photo, shown, classes, split.objects[position]))
            tag = f"{kind}{STEPS[net.step]}/{position + 1} {split.ids[position]}"
            self.writer.add_image(tag, picture, net.updates, dataformats="HWC")

    def tested(self, net: PreparedDetector, result: DetectionResult) -> None:
        if result.map is not None:
            self.writer.add_scalar(f"average_precision/{result.split}", result.map, net.updates)

    def close(self) -> None:
        self.writer.close()


def are_due(net: PreparedDetector, previous: int) -> bool:
    """Return whether pictures are due, which were last considered at update ``previous`` of this step."""
    updates, update = net.steps[net.state.part], net.state.update
    apart = max(LEAST_UPDATES, -(-updates // TIMES))
    return update == updates or update // apart > previous // apart


@torch.no_grad()
def proposed(net: PreparedDetector, position: int) -> Detections:
    """Return the best proposals in a test image, in its own pixels."""
    config = net.config
    assert config.detection is not None
    sides = (config.data.image_size, config.detection.longest_side)
    image = scaled_image(net.dataset.eval, position, sides, net.feed.stats, net.feed.like)
    (found,) = net.model.propose(net.model.maps([image]), [image], TESTING._replace(after=PROPOSALS))
    boxes, scores = (found.boxes / image.scale).double().cpu().numpy(), found.scores.double().cpu().numpy()
    return Detections(boxes, np.zeros(len(scores), np.int64), scores)
