"""The test of a trained localizer, and its stored boxes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from repro.data.localization import BoxedSplit
from repro.data.localization.feed import centre, photo_of, resized
from repro.engine.detection.callbacks import DetectionHooks
from repro.engine.detection.passes import Pass, Row, run_pass
from repro.engine.localization.candidates import candidates_of, in_own_pixels
from repro.engine.localization.classes import predicted_classes
from repro.engine.localization.members import load_members
from repro.engine.localization.prepared import PreparedLocalizer, makers_of
from repro.engine.localization.regions import PROPOSALS, ROUND, PreparedRegionNet, updated_boxes
from repro.evaluation.localization import are_right
from repro.models.detection.localizer import Located, likeliest
from repro.results.localization_record import LocalizationResult, ViewError
from repro.runtime import distributed
from repro.runtime.provenance import write_atomically

FILE = "boxes.json"
CROP, DENSE = "1crop", "dense"
Locate = Callable[[Sequence[int], np.ndarray], Iterable[np.ndarray]]
"""Returns the boxes (k, 4) of classes (n, k) in each of the test images at n positions."""


def run_test(net: PreparedLocalizer, hooks: DetectionHooks) -> tuple[LocalizationResult, dict[str, np.ndarray]] | None:
    """Locate the objects of all test images, each rank in its share of them, and count the errors.

    Returns:
        The result, and for each view the boxes (N, 1 + k, 4): of the given class, and of k predicted ones. None if the
        run was stopped and saved the boxes so far.
    """
    split, own = net.dataset.eval, net.config.localization
    assert own is not None
    labels = split.photos.labels[:, None]
    predicted = predicted_classes(net.config, split, net.device) if own.classes_of else labels[:, :0]
    classes = np.concatenate([labels, predicted], 1)
    net.model.eval()
    net.members = distributed.agreed(lambda: load_members(net.config, net.classes, net.device))
    views = [DENSE] if own.method == "rcnn" else [CROP, DENSE] if own.scales else [CROP]
    boxes: dict[str, np.ndarray] = {}
    for view in views:
        found = locate_all(net, classes, view, hooks)
        if found is None:
            return None
        boxes[view] = found
    hits = (predicted == labels) if own.classes_of else None
    result = LocalizationResult(
        split=split.photos.name,
        images=len(split),
        left_out=split.left_out,
        views=tuple(view_error(view, found, split, hits) for view, found in boxes.items()),
        class_errors=None if hits is None else int((~hits.any(1)).sum()),
    )
    return result, boxes


def view_error(view: str, found: np.ndarray, split: BoxedSplit, hits: np.ndarray | None) -> ViewError:
    """Count the errors of boxes (N, 1 + k, 4); ``hits`` (N, k) are the predicted classes that are the image's."""
    wrong = int((~are_right(found[:, 0], split.boxes)).sum())
    if hits is None:
        return ViewError(view=view, errors=wrong, error=100 * wrong / len(split))
    # A predicted class is right for one position at most, whose box counts.
    place = hits.argmax(1)
    right = hits.any(1) & are_right(found[np.arange(len(split)), 1 + place], split.boxes)
    misses = int((~right).sum())
    shares = (100 * wrong / len(split), 100 * misses / len(split))
    return ViewError(view=view, errors=wrong, error=shares[0], top5_errors=misses, top5_error=shares[1])


def locate_all(net: PreparedLocalizer, classes: np.ndarray, view: str, hooks: DetectionHooks) -> np.ndarray | None:
    """Return the boxes (N, k, 4) of ``classes`` (N, k) in each test image, in its own pixels.

    Return None if the run was stopped and saved those so far.
    """
    locate, size = way_of(net, view)

    def find(positions: Sequence[int]) -> Iterator[Row]:
        return ((boxes,) for boxes in locate(positions, classes[list(positions)]))

    makers = {**makers_of([*net.ensemble, *net.proposers]), "classes": classes.tolist()}
    images = Pass(net.config, f"tested_{view}.npz", len(net.dataset.eval), makers, f"test ({view})", size)
    found = run_pass(images, find, hooks)
    return None if found is None else np.stack([boxes for (boxes,) in found])


def remove_passes(folder: Path) -> None:
    """Remove what a run kept for its next process."""
    for path in (*folder.glob("tested_*.npz"), folder / PROPOSALS):
        path.unlink(missing_ok=True)


def way_of(net: PreparedLocalizer, view: str) -> tuple[Locate, int]:
    """Return the function that locates classes in images on a view, and the number of images that it takes at once."""
    if isinstance(net, PreparedRegionNet):
        return functools.partial(updated_boxes, net), ROUND
    if view == CROP:
        return functools.partial(in_crops, net), net.config.execution.eval_batch_size
    return functools.partial(in_whole, net), 1


def in_crops(net: PreparedLocalizer, positions: Sequence[int], classes: np.ndarray) -> np.ndarray:
    """Locate ``classes`` (n, k) in the centre crops of images."""
    data, split = net.config.data, net.dataset.eval
    assert data.eval_resize is not None
    crops, edges = zip(
        *(centre(photo_of(split, at, data.decoder), data.eval_resize, data.image_size) for at in positions), strict=True
    )
    found = located(net, torch.stack(crops), torch.from_numpy(classes)).boxes.cpu().double()
    corners = torch.tensor(edges, dtype=torch.float64).repeat(1, 2)[:, None]
    return in_own_pixels(found + corners, split.sizes[positions], data.eval_resize).numpy()


def in_whole(net: PreparedLocalizer, positions: Sequence[int], classes: np.ndarray) -> np.ndarray:
    """Locate ``classes`` (1, k) in one image at all scales; of each class the highest score of all counts (D88)."""
    own, split, (position,) = net.config.localization, net.dataset.eval, positions
    assert own is not None
    photo = photo_of(split, position, net.config.data.decoder)
    size = split.sizes[position]
    boxes, scores = [], []
    for side in own.scales:
        found = located(net, photo.resized(*resized(size, side))[None], torch.from_numpy(classes))
        boxes.append(in_own_pixels(found.boxes.cpu().double(), size[None], side)[0].numpy())
        scores.append(found.scores[0].cpu().numpy())
    best = np.stack(scores).argmax(0)
    chosen: np.ndarray = np.stack(boxes)[best, np.arange(len(best))][None]
    return chosen


def located(net: PreparedLocalizer, pixels: Tensor, classes: Tensor) -> Located:
    """Locate ``classes`` (n, k) in uint8 images (n, 3, H, W) of one size."""
    scores, boxes = candidates_of(net.ensemble, net.config, pixels, classes)
    assert net.config.localization is not None
    return likeliest(scores, boxes, vote=net.config.localization.vote)


def write_boxes(net: PreparedLocalizer, boxes: dict[str, np.ndarray]) -> None:
    """Write the boxes of the given classes as JSON, by view and image, in pixels of the original images."""
    split = net.dataset.eval.photos
    views = {view: dict(zip(split.files, found[:, 0].tolist(), strict=True)) for view, found in boxes.items()}
    values = {"run_id": net.config.run_id, "split": split.name, "boxes": views}
    write_atomically(net.config.work_dir / FILE, json.dumps(values) + "\n")
