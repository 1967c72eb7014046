"""When TensorBoard shows pictures, how many bytes an update keeps, and the multiply-adds of proposals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from repro.engine.detection.events import are_due
from repro.engine.detection.size import activation_bytes, detector_size
from tests.detector_runs import detector_config


@pytest.mark.parametrize(
    ("updates", "shown"), [(2, [2]), (120, [50, 100, 120]), (1000, [200, 400, 600, 800, 1000])], ids=str
)
def test_pictures_come_at_most_five_times_in_a_step_and_at_its_end(updates: int, shown: list[int]) -> None:
    net: Any = SimpleNamespace(steps=(updates,), state=SimpleNamespace(part=0, update=0))
    found = []
    for update in range(1, updates + 1):
        net.state.update = update
        found += [update] if are_due(cast(Any, net), update - 1) else []
    assert found == shown


def test_vgg_keeps_its_maps_for_the_backward_pass_and_rounds_the_last_one_down(tmp_path: Path) -> None:
    words = ("model=vgg", "model.depth=16", "model.shortcut=none", "model.width=0.0625", "detection.pooled_size=7")
    of = detector_config(tmp_path, *words, "data.image_size=64", "detection.samples=5", "optim.batch_size=3")
    height, width, channels = 64, 85, (4, 8, 16, 32, 32)
    kept = 4 * 3 * height * width
    for number, (filters, layers) in enumerate(zip(channels, (2, 2, 3, 3, 3), strict=True)):
        kept += 4 * filters * height * width * layers
        if number < 4:  # a pooling keeps the positions of its maxima, of 8 bytes, and its output is the next input
            height, width = height // 2, width // 2
            kept += (8 + 4) * filters * height * width
    kept += 4 * 16 * height * width  # the 3x3 layer of the proposals
    kept += 4 * 5 * (32 * 7 * 7 + 2 * 256)  # regions, fc6 and fc7
    assert activation_bytes(of, 3) == 3 * kept
    anchors, (height, width) = 9, (4, 5)
    assert detector_size(of, 3).rpn_macs == height * width * (9 * 32 * 16 + 16 * anchors * (2 + 4))
