"""New tests of trained nets, beside their records."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from repro.config.parse import require
from repro.config.run import DataConfig, RunConfig
from repro.data import Dataset, PhotoSplit, Split, load_for, load_photos
from repro.data.augment import PixelStats
from repro.data.batches import Images, eval_images, images_of
from repro.data.in_memory import split_stats, to_device
from repro.data.own_images import other_images
from repro.errors import InputError
from repro.evaluation import predictions
from repro.evaluation.counts import Counts
from repro.evaluation.multi_crop import MultiView, evaluated_images, evaluating
from repro.evaluation.predict import predict
from repro.evaluation.predictions import Predictions, made_of
from repro.evaluation.single_crop import TOP5_CLASSES, Evaluator
from repro.evaluation.trained import Trained, from_run
from repro.models.blocks import BlockNet
from repro.results.read import Record
from repro.results.select import view_of
from repro.runtime.device import set_up

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tested:
    """The errors of a net on a view; ``recorded`` are the top-1 and top-5 errors in its record."""

    name: str
    view: str
    split: str
    counts: Counts
    recorded: tuple[int | None, int | None]

    @property
    def equal(self) -> bool | None:
        """True if the errors equal those in the record; None if the record has none for this view."""
        top1, top5 = self.recorded
        return None if top1 is None else top1 == self.counts.errors and top5 in (None, self.counts.top5_errors)

    def values(self) -> dict[str, Any]:
        top1, top5 = self.recorded
        row = {"name": self.name, "view": self.view, "split": self.split, **self.counts.values()}
        return {**row, "recorded_errors": top1, "recorded_top5_errors": top5, "equal": self.equal}


def beside_record(name: str, view: str, split: str, counts: Counts, record: Record | None) -> Tested:
    """Put the errors of a net beside those in its record."""
    recorded = None
    if record is not None:
        recorded = record.result.final if view == "1crop" else view_of(record, view)
    return Tested(name, view, split, counts, (recorded.errors, recorded.top5_errors) if recorded else (None, None))


@dataclass(frozen=True)
class Loaded:
    """A trained net on its device, with its data set and the pixel statistics of its training images."""

    trained: Trained
    model: BlockNet
    dataset: Dataset
    stats: PixelStats

    def images(self, limit: int | None = None) -> Images:
        """Return the first ``limit`` images that the net is tested on; all if None."""
        return images_of(self.dataset.eval, self.trained.config, self.model.fc.weight.device, limit)


class NetTester:
    """Tests nets one after the other, with the device and the folders of ``base``; messages name ``command``.

    Raises:
        InputError: ``base`` asks for several devices, or for a device that does not exist.
    """

    def __init__(self, base: RunConfig, command: str = "repro evaluate") -> None:
        require(base.execution.engine == "local", f"{command} runs on this machine: leave out execution=slurm")
        step_by_step = base.execution.step in ("auto", "eager")
        require(step_by_step, f"{command} trains nothing: leave out execution.step")
        require(base.execution.num_ranks == 1, f"{command} uses one device: execution.devices must be 1")
        self.base = base
        self.device = set_up(base.execution, base.optim.precision)
        self._datasets: dict[DataConfig, Dataset] = {}

    def load(self, trained: Trained) -> Loaded:
        """Load what tests of a net need."""
        dataset = self._dataset(trained.config)
        return Loaded(trained, self._net(trained, dataset), dataset, self._stats(dataset, trained.config))

    def test_run(self, record: Record, views: Sequence[str]) -> list[Tested]:
        """Test a finished run on ``views``, by default those of its own test."""
        trained = from_run(record, self.base)
        rows = self.test(trained, views or ("1crop", *trained.config.eval.views))
        if other := other_images(self._dataset(trained.config).digests, record.provenance.data_digests):
            names = ", ".join(other)
            log.info(f"{trained.name} was trained and tested on other images, so errors may differ: {names}")
        return rows

    def test(self, trained: Trained, views: Sequence[str], stats: PixelStats | None = None) -> list[Tested]:
        """Test a net on ``views``, with ``stats``, by default those of its training images."""
        config, record = trained.config, trained.record
        if stats is not None:
            stats = PixelStats(stats.mean.to(self.device), stats.std.to(self.device))
        if stats is not None and config.data.photos:
            cache, workers = config.paths.work / "cache", config.execution.workers
            dataset = load_photos(config.data, config.paths.data, cache=cache, workers=workers, only_val=True)
        else:
            dataset = self._dataset(config)
        model = self._net(trained, dataset)
        rows = []
        for view in views:
            log.info(f"{trained.name}: {view}, {len(dataset.eval):,} images")
            if view == "1crop":
                counts = self._single_view(trained, model, dataset, stats)
            else:
                scores = self._scores(trained, model, dataset, view, stats)
                counts = scores.counts
                if record is not None:
                    keep(scores, config)
            rows.append(beside_record(trained.name, view, dataset.eval.name, counts, record))
        return rows

    def predictions_of(self, record: Record, view: str) -> Predictions:
        """Return the stored scores of a finished run, or compute and store them.

        Raises:
            InputError: The weights do not exist, or the stored scores are those of another run.
        """
        run_id = record.run_id
        path = predictions.path_of(self.base.paths.work / run_id, view)
        if path.exists():
            found = predictions.read(path)
            if (found.made.run_id, found.made.fingerprint, found.made.view) != (run_id, record.fingerprint, view):
                raise InputError(f"{path} has {found.made.view} of {found.made.run_id}: move the file away")
            return found
        trained = from_run(record, self.base)
        dataset = self._dataset(trained.config)
        log.info(f"{run_id}: {view}, {len(dataset.eval):,} images")
        scores = self._scores(trained, self._net(trained, dataset), dataset, view, None)
        keep(scores, trained.config)
        return scores

    def _single_view(self, trained: Trained, model: BlockNet, dataset: Dataset, stats: PixelStats | None) -> Counts:
        """Count errors as a run's own evaluation does: on whole CIFAR images, on centre crops of ImageNet images."""
        config, record = trained.config, trained.record
        images = eval_images(dataset, config, self.device)
        stats = stats or self._stats(dataset, config)
        # Top-5 errors are counted if the run counted them.
        top5 = record.result.final.top5_errors is not None if record else dataset.num_classes >= TOP5_CLASSES
        return Evaluator(model, images, stats, config.execution.eval_batch_size, config.optim.precision, top5=top5)()

    def _scores(
        self, trained: Trained, model: BlockNet, dataset: Dataset, view: str, stats: PixelStats | None
    ) -> Predictions:
        config, record = trained.config, trained.record
        if isinstance(dataset.eval, PhotoSplit):
            scores = MultiView(model, evaluated_images(dataset, config, self.device, stats), config, self.device)(view)
        elif view == "1crop":
            scores = self._whole_images(model, dataset.eval, config, stats or self._stats(dataset, config))
        else:
            raise InputError(
                f"{view} is for ImageNet images: {trained.name} is tested on {dataset.name}, with a single view"
            )
        if record is None:
            return scores
        # The current code may have another numerics version, and with it another fingerprint.
        made = dataclasses.replace(scores.made, run_id=record.run_id, fingerprint=record.fingerprint)
        return dataclasses.replace(scores, made=made)

    def _whole_images(self, model: BlockNet, split: Split, config: RunConfig, stats: PixelStats) -> Predictions:
        """Score whole CIFAR images (paper, section 4.2)."""
        images, labels = to_device(split, self.device)
        with evaluating(model):
            batches = images.split(config.execution.eval_batch_size)
            rows = [predict(model, batch, stats, config.optim.precision).float().softmax(1).cpu() for batch in batches]
        digest = hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
        made = made_of(config, model.state_dict(), "1crop", split.name, digest)
        return Predictions(made, torch.cat(rows).numpy(), labels.cpu().numpy().astype(np.int64))

    def _net(self, trained: Trained, dataset: Dataset) -> BlockNet:
        set_up(trained.config.execution, trained.config.optim.precision)  # each net in its own precision
        return trained.build(dataset.num_classes, self.device)

    def _dataset(self, config: RunConfig) -> Dataset:
        if config.data not in self._datasets:
            self._datasets[config.data] = load_for(config, may_fetch=False)
        return self._datasets[config.data]

    def _stats(self, dataset: Dataset, config: RunConfig) -> PixelStats:
        """Return the pixel statistics of the training images."""
        if isinstance(dataset.train, PhotoSplit):
            return evaluated_images(dataset, config, self.device).crop_stats
        return split_stats(dataset.train, to_device(dataset.train, self.device)[0], config.data)


def keep(scores: Predictions, config: RunConfig) -> None:
    """Write the scores of a run into its work folder, unless it already has scores of the same net and images."""
    path = predictions.path_of(config.paths.work / scores.made.run_id, scores.made.view)
    if path.exists():
        try:
            if predictions.read(path).made == scores.made:
                return
        except InputError:
            pass  # a damaged file is replaced
    predictions.write(path, scores)
