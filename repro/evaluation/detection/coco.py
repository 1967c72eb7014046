"""The twelve numbers of COCO's evaluation, by faster-coco-eval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repro.data.detection import Detections, DetectionSplit
from repro.errors import InputError
from repro.evaluation.detection.tables import Rows, detection_rows, object_rows

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Average precision over the overlaps 0.5 to 0.95, at 0.5 and 0.75, of small, medium and large objects; average recall
with 1, 10 and 100 detections of a class in an image, and of small, medium and large objects."""

MAX_DETECTIONS = 100  # detections of a class in an image; COCO's code gives -1 for any other number


@dataclass(frozen=True)
class CocoScores:
    """The twelve numbers by ``NAMES``, from 0 to 1; NaN for a size of which these images have no object."""

    values: dict[str, float]

    def note(self) -> str | None:
        """Return a sentence about numbers that these images cannot have; None if they have all."""
        absent = [name for name, value in self.values.items() if np.isnan(value)]
        return f"these images have no object for {', '.join(absent)}" if absent else None


def evaluate(
    split: DetectionSplit, detections: Sequence[Detections], max_detections: int = MAX_DETECTIONS
) -> CocoScores:
    """Score the detections of all images of ``split``, in its order.

    Detections of a crowd are ignored. Ties of scores are in the order of the image ids, then in that of the image.

    Raises:
        InputError: faster-coco-eval is not installed, or ``max_detections`` is not COCO's 100.
    """
    if max_detections != MAX_DETECTIONS:
        raise InputError(
            f"eval.max_detections={max_detections} has no scores by COCO's rules, which count the best "
            f"{MAX_DETECTIONS} detections of a class in an image: use {MAX_DETECTIONS}"
        )
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise InputError(
            f"COCO's scores need faster-coco-eval, which cannot be imported ({error}): pip install 'repro[detection]', "
            "or in a checkout pip install -e '.[detection]'"
        ) from error
    truth, found = tables(split, detections)
    sets = []
    for table in (truth, found):
        made = COCO(print_function=silent)
        made.dataset = table
        made.createIndex()
        sets.append(made)
    run = COCOeval_faster(*sets, iouType="bbox", print_function=silent)
    run.evaluate()
    run.accumulate()
    run.summarize()
    values = [float(value) for value in run.stats[: len(NAMES)]]
    return CocoScores({name: float("nan") if v < 0 else v for name, v in zip(NAMES, values, strict=True)})


def silent(*_: object) -> None:
    """Print nothing: the scores are reported by their user."""


def tables(split: DetectionSplit, detections: Sequence[Detections]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return objects and detections as contents of COCO's JSON.

    Images and categories are numbered anew from 1, annotations too: COCO's code takes a match with the annotation 0 for
    none.
    """
    images = [{"id": i} for i in range(1, len(split) + 1)]
    named = [{"id": label, "name": name} for label, name in enumerate(split.classes, start=1)]
    objects, found = object_rows(split), detection_rows(split, detections)
    truth = [entry | {"iscrowd": int(crowd)} for entry, crowd in zip(entries(objects), objects.crowd, strict=True)]
    scored = [
        entry | {"iscrowd": 0, "score": score}
        for entry, score in zip(entries(found), found.scores.tolist(), strict=True)
    ]
    return (
        {"images": images, "categories": named, "annotations": truth},
        {"images": images, "categories": named, "annotations": scored},
    )


def entries(rows: Rows) -> list[dict[str, Any]]:
    corners = rows.boxes
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    columns = zip(rows.image.tolist(), rows.labels.tolist(), boxes, rows.areas.tolist(), strict=True)
    return [
        {"id": i, "image_id": image + 1, "category_id": label + 1, "bbox": box, "area": area}
        for i, (image, label, box, area) in enumerate(columns, start=1)
    ]
