"""The likeliest classes of test images, and the errors of their boxes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from repro.data import PhotoSplit, load
from repro.engine.localization.classes import predicted_classes
from repro.engine.localization.run import run_localizer
from repro.engine.localization.testing import view_error
from repro.engine.run import run
from repro.evaluation import predictions
from repro.evaluation.localization import are_right
from tests.localizer_runs import boxed, localizer_config
from tests.photos import CLASSES
from tests.planted_boxes import made_split, make_tiny_boxes
from tests.runs import StopAfter, photo_config

RIGHT, WRONG = [10.0, 10, 30, 30], [40.0, 40, 60, 60]


def test_a_predicted_class_counts_with_the_box_of_its_own_place() -> None:
    # Of each image: the box of the given class, those of two predicted classes, and which of these is the image's.
    images = {
        "the right class, the first, with a right box": ([RIGHT, RIGHT, WRONG], [True, False]),
        "the right class, the second, with a right box": ([RIGHT, WRONG, RIGHT], [False, True]),
        "the right class with a wrong box, a wrong one with a right box": ([RIGHT, WRONG, RIGHT], [True, False]),
        "wrong classes, with right boxes": ([RIGHT, RIGHT, RIGHT], [False, False]),
        "a wrong box of the given class, a right one of the predicted": ([WRONG, WRONG, RIGHT], [False, True]),
    }
    boxes, hits = (np.array(values) for values in zip(*images.values(), strict=True))
    split = made_split([[RIGHT]] * len(images), [(64, 64)] * len(images))
    found = view_error("dense", boxes, split, hits)
    assert (found.view, found.errors, found.error) == ("dense", 1, 20)
    assert (found.top5_errors, found.top5_error) == (2, 40)
    each = [view_error("dense", boxes[i : i + 1], made_split([[RIGHT]], [(64, 64)]), hits[i : i + 1]) for i in range(5)]
    assert [one.top5_errors for one in each] == [0, 0, 1, 1, 0]
    given = view_error("dense", boxes[:, :1], split, None)
    assert (given.errors, given.top5_errors, given.top5_error) == (1, None, None)


@pytest.mark.slow
def test_classes_are_those_of_the_highest_mean_of_the_classifiers_scores(tmp_path: Path) -> None:
    classes = tuple(sorted((*CLASSES, *(f"n0300000{i}" for i in range(5)))))
    # One test image has no valid box, so that positions differ from those of the classifiers' test.
    folder = make_tiny_boxes(tmp_path / "photos", train=2, changed={"val_3": "9 9 5 5"}, classes=classes)
    images = (f"paths.data={folder}", "data.partial=true", "data.train_images=null", "data.test_images=null")
    words = ("data=tiny_imagenet", "optim.steps=2", "optim.milestones=[]", "eval.views=[multiscale]", *images)
    nets = [photo_config(tmp_path, "model.width=0.125", f"seed={seed}", *words) for seed in (0, 1)]
    whole = load(nets[0].data, folder, may_fetch=False, cache=tmp_path / "work" / "cache", workers=0)
    for net in nets:
        run(net, whole, StopAfter(None))
    names = ",".join(net.run_id for net in nets)
    of = localizer_config(
        tmp_path, "data=tiny_imagenet_boxes", f"localization.classes_of=[{names}]", "localization.scales=[]", *images
    )
    dataset = boxed(of)
    record = run_localizer(of, dataset, StopAfter(None))
    assert record is not None and (len(dataset.eval), dataset.eval.left_out) == (15, 1)

    assert isinstance(whole.eval, PhotoSplit)
    places = [whole.eval.files.index(file) for file in dataset.eval.photos.files]
    each = [predictions.read(predictions.path_of(net.work_dir, "multiscale")).scores[places] for net in nets]
    scores, labels = np.mean(each, 0), dataset.eval.photos.labels
    found = predicted_classes(of, dataset.eval, torch.device("cpu"))
    assert found.shape == (15, 5)
    # Batches of other images round otherwise: the scores are as high as the highest ones.
    assert np.allclose(np.take_along_axis(scores, found, 1), -np.sort(-scores, 1)[:, :5], rtol=0, atol=1e-6)
    assert all(len(set(row)) == 5 for row in found.tolist())
    hits = (found == labels[:, None]).any(1)
    assert record.localization.class_errors == int((~hits).sum()) > 0
    # The image's class has the same box, predicted or given.
    given = json.loads((of.work_dir / "boxes.json").read_text())["boxes"]["1crop"]
    right = are_right(np.array([given[file] for file in dataset.eval.photos.files]), dataset.eval.boxes)
    (view,) = record.localization.views
    assert view.errors == int((~right).sum()) and view.top5_errors == int((~(hits & right)).sum())
