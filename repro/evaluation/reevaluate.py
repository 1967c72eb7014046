"""A trained net on the images that its run is evaluated on: the usual single view, several views, and its record."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from repro.config.parse import require
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, PhotoSplit, Split, load_for, load_photos
from repro.data.augment import PixelStats, pixel_stats
from repro.data.batches import eval_images
from repro.data.in_memory import to_device
from repro.errors import InputError
from repro.evaluation import predictions
from repro.evaluation.multi_crop import MultiView, evaluating, photographs
from repro.evaluation.predict import predict
from repro.evaluation.predictions import Made, Predictions
from repro.evaluation.single_crop import TOP5_CLASSES, Evaluator
from repro.evaluation.trained import Trained, from_run, record_of
from repro.models.blocks import BlockNet
from repro.results.read import Record
from repro.runtime import checkpoint
from repro.runtime.device import set_up
from repro.runtime.provenance import read_json


@dataclass(frozen=True)
class Row:
    """What a net got on a view, and what its record says of it, where it says something."""

    name: str
    view: str
    split: str
    errors: int
    images: int
    top1_error: float
    top5_errors: int | None = None
    top5_error: float | None = None
    recorded_errors: int | None = None
    recorded_top5_errors: int | None = None

    @property
    def equal(self) -> bool | None:
        """Whether the errors are those of the record; None where it says nothing of this view."""
        if self.recorded_errors is None:
            return None
        return self.errors == self.recorded_errors and self.recorded_top5_errors in (None, self.top5_errors)


class NetTester:
    """Tests nets one after the other; ``base`` says on what device and where the folders are.

    Raises:
        InputError: It asks for several devices, or for one that is not there.
    """

    def __init__(self, base: RunConfig, say: Callable[[str], None]) -> None:
        require(base.execution.engine == "local", "nets are evaluated again on this machine: leave out execution=slurm")
        step_by_step = base.execution.step in ("auto", "eager")
        require(step_by_step, "nets are evaluated again operation by operation: leave out execution.step")
        require(base.execution.num_ranks == 1, "nets are evaluated again on one device: execution.devices must be 1")
        self.base, self.say = base, say
        self.device = set_up(base.execution, base.optim.precision)
        self._datasets: dict[DataConfig, Dataset] = {}

    def retest(self, run_id: str, views: Sequence[str]) -> list[Row]:
        """A finished run, on ``views`` or else on those of its own test, each beside its record."""
        trained = from_run(run_id, self.base)
        rows = self.test(trained, views or ("1crop", *trained.config.eval.views))
        self.compare_images(trained)
        return rows

    def compare_images(self, trained: Trained) -> None:
        """Says where a record was made on other images than the ones that are here: then errors may differ."""
        assert trained.record is not None
        recorded = read_json(trained.record.folder / "record.json")["provenance"].get("data_digests") or {}
        here = self.dataset(trained.config).digests
        if other := [name for name, digest in here.items() if recorded.get(name, digest) != digest]:
            self.say(
                f"{trained.name} was trained and tested on other images than those here: {', '.join(other)} differ"
            )

    def test(self, trained: Trained, views: Sequence[str], stats: PixelStats | None = None) -> list[Row]:
        """A net on each of ``views``; ``stats`` in the place of those of the training images."""
        config = trained.config
        if stats is not None and config.data.photos:
            cache, workers = config.paths.work / "cache", config.execution.workers
            dataset = load_photos(config.data, config.paths.data, cache=cache, workers=workers, only_val=True)
        else:
            dataset = self.dataset(config)
        model = self.net(trained, dataset)
        rows = []
        for view in views:
            self.say(f"{trained.name}: {view}, {len(dataset.eval):,} images")
            if view == "1crop":
                rows.append(self.single_view(trained, model, dataset, stats))
            else:
                scores = self.scores(trained, model, dataset, view, stats)
                if trained.record is not None:
                    keep(scores, config)
                rows.append(row_of(trained.name, scores, trained.record))
        return rows

    def single_view(self, trained: Trained, model: BlockNet, dataset: Dataset, stats: PixelStats | None) -> Row:
        """The view of a run's own evaluation, by the same code: the image as it is, or its centre crop."""
        config, record = trained.config, trained.record
        images = eval_images(dataset, config, self.device)
        stats = stats or self.stats(dataset, config)
        batch_size = config.execution.eval_batch_size
        # As the run counted; of few classes five say nothing.
        top5 = record.result.final.top5_errors is not None if record else dataset.num_classes >= TOP5_CLASSES
        counts = Evaluator(model, images, stats, batch_size, config.optim.precision, top5=top5)()
        return Row(
            name=trained.name,
            view="1crop",
            split=dataset.eval.name,
            errors=counts.errors,
            images=counts.images,
            top1_error=counts.top1_error,
            top5_errors=counts.top5_errors,
            top5_error=counts.top5_error,
            recorded_errors=record.result.final.errors if record else None,
            recorded_top5_errors=record.result.final.top5_errors if record else None,
        )

    def predictions_of(self, run_id: str, view: str) -> tuple[Record, Predictions]:
        """The scores of a finished run: those that are kept, or made and kept now.

        Raises:
            InputError: There is no such run, or what is kept is not its own.
        """
        paths = self.base.paths
        record = record_of(run_id, (paths.work, paths.results / "runs"))
        path = predictions.path_of(paths.work / run_id, view)
        if path.exists():
            found = predictions.read(path)
            if (found.made.run_id, found.made.fingerprint, found.made.view) != (run_id, record.fingerprint, view):
                raise InputError(f"{path} holds {found.made.view} of {found.made.run_id}: move it away")
            return record, found
        trained = from_run(run_id, self.base)
        dataset = self.dataset(trained.config)
        self.say(f"{run_id}: {view}, {len(dataset.eval):,} images")
        scores = self.scores(trained, self.net(trained, dataset), dataset, view, None)
        keep(scores, trained.config)
        return record, scores

    def scores(
        self, trained: Trained, model: BlockNet, dataset: Dataset, view: str, stats: PixelStats | None
    ) -> Predictions:
        """The scores of a net on ``view`` of every image.

        Raises:
            InputError: The images have a single view.
            RunError: A score is not finite.
        """
        config = trained.config
        if isinstance(dataset.eval, PhotoSplit):
            test = MultiView(model, photographs(dataset, config, self.device, stats), config, self.device)
            scores = test(view)[1]
        elif view == "1crop":
            scores = self.whole_images(model, dataset.eval, config, stats or self.stats(dataset, config))
        else:
            raise InputError(f"{view} is for photographs: {trained.name} is tested on {dataset.name}, in a single view")
        if trained.record is None:
            return scores
        made = dataclasses.replace(scores.made, run_id=trained.record.run_id, fingerprint=trained.record.fingerprint)
        return dataclasses.replace(scores, made=made)

    def whole_images(self, model: BlockNet, split: Split, config: RunConfig, stats: PixelStats) -> Predictions:
        """The scores of images in memory, as they are (paper, section 4.2)."""
        images, labels = to_device(split, self.device)
        precision = config.optim.precision
        with evaluating(model):
            batches = images.split(config.execution.eval_batch_size)
            rows = [predict(model, batch, stats, precision).float().softmax(1).cpu() for batch in batches]
        made = Made(
            run_id=config.run_id,
            fingerprint=config.fingerprint,
            view="1crop",
            data=config.data.name,
            split=split.name,
            images=hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest(),
            weights=checkpoint.digest({"model": model.state_dict()}),
            settings={"image_size": config.data.image_size, "precision": precision},
        )
        return Predictions(made, torch.cat(rows).numpy(), labels.cpu().numpy().astype(np.int64))

    def net(self, trained: Trained, dataset: Dataset) -> BlockNet:
        """The net on the device, which is set to its precision."""
        set_up(trained.config.execution, trained.config.optim.precision)
        return trained.build(dataset.num_classes, self.device)

    def dataset(self, config: RunConfig) -> Dataset:
        """The data of a run, read once."""
        if config.data not in self._datasets:
            self._datasets[config.data] = load_for(config, may_fetch=False)
        return self._datasets[config.data]

    def stats(self, dataset: Dataset, config: RunConfig) -> PixelStats:
        """Mean and deviation of the training images, as in training."""
        if isinstance(dataset.train, PhotoSplit):
            return photographs(dataset, config, self.device).crop_stats
        return pixel_stats(to_device(dataset.train, self.device)[0], config.data.mean, config.data.std)


def keep(scores: Predictions, config: RunConfig) -> None:
    """Writes the scores of a run into its work folder, unless those that are there were made of the same weights
    and images in the same way: the ones of the run itself stay."""
    path = predictions.path_of(config.paths.work / scores.made.run_id, scores.made.view)
    if path.exists():
        try:
            if predictions.read(path).made == scores.made:
                return
        except InputError:
            pass  # damaged: written anew
    predictions.write(path, scores)


def row_of(name: str, scores: Predictions, record: Record | None = None) -> Row:
    """The errors of kept scores beside what the record says of the view."""
    view = scores.made.view
    found = None
    if record is not None:
        known = {entry.view: entry for entry in record.result.views}
        found = record.result.final if view == "1crop" else known.get(view)
    counts = predictions.counts(scores.errors(), scores.errors(5), len(scores.labels))
    return Row(
        name=name,
        view=view,
        split=scores.made.split,
        **counts,
        recorded_errors=found.errors if found else None,
        recorded_top5_errors=found.top5_errors if found else None,
    )
