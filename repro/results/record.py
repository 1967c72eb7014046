"""The record of a finished run of classification.

The fields are in the order of the file. The text beside a field is its meaning in docs/export.md; fields without a text
are not exported. Fields that older code did not write have a default, at which they are left out of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from repro.config.parse import Open, require
from repro.config.science import Science
from repro.results.stored import Provenance, Stored, check_identity


@dataclass(frozen=True, kw_only=True)
class Evaluation(Open):
    """Errors in evaluation mode; ``loss`` is None if it is not finite, as when a deep plain net's logits overflow."""

    split: Annotated[str, "what was tested on: `train`, `test`, `val` or `val5k`"]
    errors: Annotated[int, "images whose class was not the first guess"]
    images: Annotated[int, "images tested"]
    top1_error: Annotated[float, "errors in percent"]
    loss: Annotated[float | None, "mean cross entropy"]
    top5_errors: Annotated[
        int | None, "images whose class was not among the first five guesses; ImageNet images only"
    ] = None
    top5_error: Annotated[float | None, "the same in percent"] = None
    step: Annotated[int, "with the weights after this step"]


@dataclass(frozen=True, kw_only=True)
class RunningError(Open):
    """Errors over the augmented training batches of the steps ``first_step`` to ``last_step``."""

    split: str | None
    errors: Annotated[int, "images whose class was not the first guess"]
    images: Annotated[int, "images tested"]
    top1_error: Annotated[float, "errors in percent"]
    loss: Annotated[float | None, "mean cross entropy"]
    first_step: Annotated[int, "the first step whose batch was counted"]
    last_step: Annotated[int, "the last of them"]


@dataclass(frozen=True, kw_only=True)
class ViewResult(Open):
    """Errors of the final net on several views of every image, softmax averaged (section 3.4)."""

    view: str
    split: Annotated[str, "what was tested on"]
    errors: Annotated[int, "wrong first guesses"]
    images: Annotated[int, "images tested"]
    top1_error: Annotated[float, "wrong first guesses in percent"]
    top5_errors: Annotated[int, "images whose class was not among the first five guesses"]
    top5_error: Annotated[float, "the same in percent"]


@dataclass(frozen=True, kw_only=True)
class Result(Open):
    """All errors: of the final net, of the best epoch, on the training set, during training, and on several views."""

    final: Evaluation
    best: Evaluation
    train: Evaluation | None
    train_running: RunningError | None
    views: tuple[ViewResult, ...] = ()
    chosen: Evaluation | None = None
    """The errors at the epoch of the lowest ``validation`` error, with ``eval.choose=validation`` (deviation D48)."""
    validation: Evaluation | None = None
    """The errors at that epoch on the images that chose it."""

    @property
    def reported(self) -> Evaluation:
        """The number of a run: of the epoch that validation chose, where it does, else of the final weights."""
        return self.final if self.chosen is None else self.chosen


@dataclass(frozen=True)
class LayerResponse(Open):
    """Standard deviation of a 3x3 layer's output after batch norm (Fig. 7); None if the responses overflow."""

    layer: str
    std: float | None


@dataclass(frozen=True)
class LayerFlow(Open):
    """Standard deviation of a layer's output after batch norm, and gradient norms of its weight and of that output.

    The gradient of the output is the backward signal. That of the weight is not: before batch norm, larger weights
    have smaller gradients.
    """

    layer: str
    forward_std: float
    gradient_norm: float
    activation_gradient_norm: float


@dataclass(frozen=True)
class Flow(Open):
    """Signals and gradients through all 3x3 layers after ``step`` steps (``eval.gradient_flow``)."""

    step: int
    layers: tuple[LayerFlow, ...]


@dataclass(frozen=True, kw_only=True)
class Construction(Open):
    """Comparison of a deep net constructed from a trained shallow net with that net, before the first step."""

    from_run: Annotated[str, "the shallow net's run"]
    shallow_errors: Annotated[int, "errors of the shallow net, in evaluation mode"]
    deep_errors: Annotated[int, "errors of the deep net before its first step, in evaluation mode"]
    images: Annotated[int, "over so many images"]
    changed: Annotated[int | None, "images whose predictions differ"]
    gap: Annotated[float, "largest difference of a logit in evaluation mode"]
    shallow_batch_error: Annotated[float, "error of the shallow net on training batches in training mode, in percent"]
    deep_batch_error: Annotated[float, "error of the deep net on the same batches, in percent"]
    from_dirty: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Record(Stored):
    """A finished run; ``folder`` holds its ``record.json`` and ``curve.csv``."""

    curve_file: ClassVar[str] = "curve.csv"

    run_id: Annotated[str, "name of the run: key, seed and the first digits of the fingerprint"]
    key: Annotated[str, "data, net and scale, as in `cifar10-resnet20-demo`"]
    label: Annotated[str, "the paper's name of the net"]
    exp: Annotated[str, "the experiment that it was run for, a label only; empty for a run of none"]
    scale: Annotated[str, "`paper`, or the name of the reduced budget"]
    seed: Annotated[int, "the seed of the run"]
    fingerprint: Annotated[
        str,
        "digest of all settings that can move a number, and of the numerics version: `fp-` and the 16 digits of the "
        "record, since programs read digits such as `12e45678` as numbers",
    ]
    numerics_version: Annotated[int, "rises when a change of the code moves numbers: compare only within one version"]
    science: Science
    result: Result
    steps: Annotated[int, "optimizer updates made"]
    below_80_step: Annotated[
        int | None,
        "the end of the first 50 steps with a running training error below 80 % (D9); empty where there are none, or "
        "in records of older code",
    ] = None
    params: Annotated[int, "parameters of the net"]
    macs: Annotated[int, "multiply-adds of one image"]
    wall_seconds: Annotated[
        float, "time of the steps and evaluations, in seconds, added up over the parts of an interrupted run"
    ]
    images_per_second: Annotated[float, "training images a second"]
    responses: tuple[LayerResponse, ...] = ()
    flow: tuple[Flow, ...] = ()
    construction: Construction | None = None
    execution: Mapping[str, Any]
    provenance: Provenance
    folder: Path

    @property
    def marked_label(self) -> str:
        """The label, with a mark for a net of the user's own."""
        return f"{self.label} (own net)" if self.science.model.is_own else self.label

    @property
    def outcome(self) -> Result:
        """Return what was measured."""
        return self.result

    def deviations(self) -> list[float]:
        """Return the standard deviation of each layer's responses; raise an ``InputError`` if some overflow."""
        values = [layer.std for layer in self.responses if layer.std is not None]
        require(len(values) == len(self.responses), "the responses of some of its layers overflow")
        return values

    def check(self) -> None:
        """Raise an ``InputError`` if parts of the record contradict each other."""
        check_identity(self)
        below = self.below_80_step
        require(below is None or 0 < below <= self.steps, f"below_80_step={below} is not one of its {self.steps} steps")
        require(self.carried.world_size > 0, f"execution.world_size={self.carried.world_size} must be above 0")
        self._check_result()

    def _check_result(self) -> None:
        result, split = self.result, self.science.data.eval_split
        last, best = result.final.step, result.best.step
        require(last == self.steps, f"result.final.step={last} is not {self.steps}, the last step")
        require(0 <= best <= self.steps, f"result.best.step={best} is not from 0 to {self.steps}")
        views = {view.view: view for view in result.views}
        require(len(views) == len(result.views), "result.views names a view twice")
        counted: dict[str, Evaluation | ViewResult] = {"final": result.final, "best": result.best, **views}
        if result.chosen is not None:
            counted["chosen"] = result.chosen
        chooses = self.science.eval.choose == "validation"
        fits = {result.chosen is not None, result.validation is not None} == {chooses}
        require(fits, f"result.chosen and result.validation do not fit eval.choose={self.science.eval.choose}")
        for name, tested in counted.items():
            require(tested.split == split, f"result.{name}.split={tested.split} is not data.eval_split={split}")
            _check_counts(name, tested)
        for name, counts in (("train", result.train), ("train_running", result.train_running)):
            if counts is not None:
                _check_counts(name, counts)


def _check_counts(name: str, counts: Evaluation | RunningError | ViewResult) -> None:
    images, errors, where = counts.images, counts.errors, f"result.{name}"
    require(0 <= errors <= images and images > 0, f"{where} counts {errors} errors among {images} images")
    error, given = 100 * errors / images, counts.top1_error
    require(abs(given - error) < 1e-9, f"{where}.top1_error={given} is not 100 * {errors} / {images} = {error}")
    if isinstance(counts, RunningError) or counts.top5_errors is None or counts.top5_error is None:
        return
    top5, given = counts.top5_errors, counts.top5_error
    fits = 0 <= top5 <= errors and abs(given - 100 * top5 / images) < 1e-9
    require(fits, f"{where}: {top5} top-5 errors ({given} %) do not fit {errors} errors among {images} images")
