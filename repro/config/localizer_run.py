"""Checks of a run that trains a localizer."""

from __future__ import annotations

from repro.config.execution import ExecutionConfig
from repro.config.parse import require
from repro.config.science import Science
from repro.errors import InputError


def validate_localizer(config: Science, execution: ExecutionConfig) -> None:
    """Refuse settings that do not fit together in a run that trains a localizer."""
    model, data, optim = config.model, config.data, config.optim
    if config.localization is None:
        raise InputError(f"data.boxes=true has boxes of {data.name}, for localizers: add exp=imagenet_localization")
    require(
        data.boxes,
        f"data={data.name} has no boxes of the images' classes, which localization needs: use data=imagenet_boxes, "
        "data=tiny_imagenet_boxes or data=shapes_boxes",
    )
    require(config.detection is None, "detection and localization are two kinds of runs: leave out detection=")
    for part in (model, data, optim, config.eval, execution, config.localization):
        part.validate()
    require(
        data.mean == "per_channel",
        f"data.mean={data.mean} must be per_channel for localizers, which see crops and whole images (D82)",
    )
    require(
        model.name == "imagenet_resnet" and model.order == "original",
        f"model={model.name} model.order={model.order} has no body for localizers: use model=imagenet_resnet "
        "model.order=original",
    )
    require(not model.is_random, "model.dropout and model.survival are not for localizers: leave them out")
    is_stepwise = (optim.schedule, optim.warmup) == ("milestones", "none") and not optim.label_smoothing
    require(is_stepwise, "localizers have steps and milestones alone: use optim=localization_sgd")
    is_plain = not config.eval.views and not config.eval.train_error and config.eval.choose == "last"
    require(is_plain, "eval.views, eval.train_error and eval.choose are not for localizers: use eval=detection")
    require(
        config.localization.method == "rpn" or 2 * config.localization.context < data.image_size,
        f"localization.context={config.localization.context} leaves nothing of a crop of data.image_size="
        f"{data.image_size}: use less than half of it",
    )
    require(
        optim.batch_size % execution.num_ranks == 0,
        f"optim.batch_size={optim.batch_size} does not divide evenly over the {execution.num_ranks} devices: use a "
        f"multiple of {execution.num_ranks}",
    )
    require(
        execution.step in ("auto", "eager"),
        f"execution.step={execution.step} is not for localizers: use eager or auto",
    )
    for name in ("micro_batch", "checkpoint_activations", "profile"):
        value = getattr(execution, name)
        shown = str(value).lower()
        require(not value, f"execution.{name}={shown} is for classification: leave it out for localizers")
