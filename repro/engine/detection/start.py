"""The net and the pixel statistics from which a detector starts."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import VGG, get_model_weights, list_models

from repro.config.families import FAMILIES
from repro.config.parse import require
from repro.config.run import ModelConfig, RunConfig
from repro.config.science import Science
from repro.data.augment import PixelStats, generator_for
from repro.data.detection.dataset import DetectionDataset
from repro.data.detection.scaled import channel_stats, scaled_image, square_crops
from repro.errors import InputError
from repro.evaluation.foreign import origin_of
from repro.evaluation.stored_net import detector_net, file_of, stored_net
from repro.evaluation.trained import misfit
from repro.evaluation.weight_files import read_weights
from repro.models.detection.body import build_uncut, recompute_statistics, uncut_weights
from repro.models.resnet import ImageNetResNet
from repro.results.detection_record import DetectionRecord
from repro.results.find import find_any
from repro.results.read import AnyRecord, Record
from repro.results.settings import from_paper
from repro.runtime import checkpoint

OUTPUTS = ("fc.", "classifier.6.")
"""Beginnings of the names of a classification net's last layer."""


@dataclass(frozen=True)
class Start:
    """A classification net with its weights, the statistics of its pixels, and the digest of a file of weights."""

    net: ImageNetResNet | VGG
    stats: PixelStats
    digests: dict[str, str]


def check_start(config: RunConfig) -> None:
    """Raise ``InputError`` if the weights that a detector starts from are not named or do not exist."""
    starting = config.starts_from
    if starting is None or starting.start == "random":
        return
    require(
        starting.start is not None, f"{starting.group}.start=null names no weights of the body: name {named(config)}"
    )
    if starting.start_is_file:
        path = weights_path(config)
        require(path.is_file(), f"{key_of(config)} does not exist: put the file into {path.parent}")
        check_pretrained(config, "classifier")
    else:
        record = started_from(config)
        check_pretrained(config, pretrained(record))
        file_of(record.run_id, config.paths.work, config.paths.results)


def named(config: RunConfig) -> str:
    """Describe the weights that a run can start from, as a clause of a message; files are named as torchvision's."""
    if config.detection is not None and config.detection.pretrained != "classifier":
        kind = "detector on COCO (exp=coco_detection)" if config.detection.pretrained == "coco" else "detector"
        return f"the finished run of a {kind}"
    name = {"vgg": "vgg", "imagenet_resnet": "resnet"}.get(config.model.name, "") + str(config.model.depth)
    if name not in list_models():
        return "a finished run, or random"
    file = get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    return f"a finished run, a file in paths.data such as {file}, or random"


def build_start(config: RunConfig, dataset: DetectionDataset, device: torch.device) -> Start:
    """Build the classification net that a detector starts from, on the CPU.

    Raises:
        InputError: The weights do not exist, or do not fit the net.
    """
    assert config.starts_from is not None
    check_start(config)
    return random_start(config, dataset) if config.starts_from.start == "random" else stored_start(config)


def stored_start(config: RunConfig) -> Start:
    """Build the net of a run or of a file of weights, which are there.

    Raises:
        InputError: The weights do not fit the net.
    """
    assert config.starts_from is not None
    if not config.starts_from.start_is_file:
        record = started_from(config)
        weights, stats = weights_and_pixels(config, record)
        return Start(filled(config, weights), channel_values(stats), {"start": record.fingerprint})
    path = weights_path(config)
    weights = read_weights(path).weights
    origin = origin_of(weights)
    require(
        len(origin.pixels.mean) == 3,
        f"{key_of(config)} has weights of {origin.name}, whose pixel statistics are unknown: use a file "
        "with torchvision's names, or a run",
    )
    for key, value in origin.settings.items():
        there = config.model.name if key == "model" else getattr(config.model, key.removeprefix("model."))
        require(str(there) == value, f"{key}={there} does not fit {key_of(config)}: it needs {key}={value}")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (origin.pixels.mean, origin.pixels.std))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Start(filled(config, dict(origin.to_ours(weights))), PixelStats(mean, std), {"start": digest})


def key_of(config: RunConfig) -> str:
    """Return the setting that names the start, as on the command line."""
    assert config.starts_from is not None
    return f"{config.starts_from.group}.start={config.starts_from.start}"


def weights_path(config: RunConfig) -> Path:
    assert config.starts_from is not None and config.starts_from.start is not None
    return config.paths.data / config.starts_from.start


def started_from(config: RunConfig) -> AnyRecord:
    """Read the record of the run whose final net is the start, and check that the nets are the same."""
    assert config.starts_from is not None and config.starts_from.start is not None
    record = find_any(config.starts_from.start, [config.paths.work, config.paths.results / "runs"])
    fits = isinstance(record, Record) or (config.detection is not None and isinstance(record, DetectionRecord))
    require(fits, f"{key_of(config)} is not a run of classification")
    require(
        record.run_id == config.starts_from.start,
        f"{key_of(config)} must be the whole id of a run: {record.run_id}",
    )
    one, other = comparable(config.model), comparable(record.science.model)
    for field in dataclasses.fields(ModelConfig):
        here, there = getattr(one, field.name), getattr(other, field.name)
        require(
            here == there,
            f"model.{field.name}={here} does not fit {key_of(config)}, which has {there}: set "
            f"model.{field.name}={there}",
        )
    return record


def pretrained(record: AnyRecord) -> str:
    """Return the kind of run that a detector starts from, as ``detection.pretrained`` names it."""
    if not isinstance(record, DetectionRecord):
        return "classifier"
    is_on_coco = record.detection.metric == "coco" and not record.provenance.dirty and not from_paper(record.science)
    return "coco" if is_on_coco else "detector"


def check_pretrained(config: RunConfig, found: str) -> None:
    detection = config.detection
    require(
        detection is None or detection.pretrained == found,
        f"detection.pretrained={detection and detection.pretrained} does not fit detection.start="
        f"{detection and detection.start}: set detection.pretrained={found}",
    )


def weights_of_detector(config: RunConfig, record: AnyRecord) -> tuple[Mapping[str, Tensor], PixelStats]:
    """Read body and top of a finished detector as a classification net, with its pixel statistics (D77)."""
    found = detector_net(record.run_id, config.paths.work, config.paths.results)
    weights = uncut_weights(found.weights)
    # The layer of classes, which no detector has, is in no body either.
    missing = build_net(config, 1).state_dict().items()
    return {**{name: value for name, value in missing if name.startswith(OUTPUTS)}, **weights}, found.stats


def weights_and_pixels(config: RunConfig, record: AnyRecord) -> tuple[Mapping[str, Tensor], PixelStats]:
    """Read the final weights of a run and the statistics of its pixels.

    Its images are elsewhere: ``paths.data`` has those of the detector. Only a checkpoint of older code, which lacks
    the statistics, needs them.
    """
    if not isinstance(record, Record):
        return weights_of_detector(config, record)
    paths = config.paths
    path = file_of(record.run_id, paths.work, paths.results)
    if path.name == checkpoint.FINAL:
        stored = checkpoint.load(path)
        if "pixels" in stored:
            return stored["model"], PixelStats(stored["pixels"]["mean"], stored["pixels"]["std"])
    found = stored_net(record, paths.work, paths.results, paths.data)
    return found.weights, found.stats


def comparable(model: ModelConfig) -> ModelConfig:
    usual = {"init": "he_fan_in", "fc_init": "he", "bn_group_size": 1, "bn_momentum": 0.1}
    return dataclasses.replace(model, **usual)  # type: ignore[arg-type]


def filled(config: RunConfig, weights: Mapping[str, Tensor]) -> ImageNetResNet | VGG:
    """Build the run's net with trained weights."""
    output = "classifier.6.weight" if FAMILIES[config.model.name].is_body else "fc.weight"
    net = build_net(config, len(weights[output]) if output in weights else 1000)
    if reason := misfit(net.state_dict(), weights):
        raise InputError(f"{key_of(config)} does not contain a {config.model.label}: {reason}")
    net.load_state_dict(weights, strict=False)  # only counters of batches may be missing
    return net


def build_net(config: RunConfig | Science, num_classes: int) -> ImageNetResNet | VGG:
    return build_uncut(config.model, num_classes, generator_for(config.seed, "init"))


def channel_values(stats: PixelStats) -> PixelStats:
    """Average the statistics of each channel over all positions: images have many sizes (deviation D63)."""
    mean, std = (values.expand(3, *values.shape[1:]).mean((1, 2), keepdim=True) for values in (stats.mean, stats.std))
    return PixelStats(mean, std)


def random_start(config: RunConfig, dataset: DetectionDataset) -> Start:
    """Build a net with random weights, whose batch-norm statistics are those of some training images."""
    assert config.detection is not None
    positions = range(min(config.detection.start_images, len(dataset.train)))
    stats = channel_stats(dataset.train, positions, config.data.std)
    sides = (config.data.image_size, config.detection.longest_side)
    like = torch.empty(0)
    images = [scaled_image(dataset.train, position, sides, stats, like) for position in positions]
    net = build_net(config, 10)
    recompute_statistics(net, square_crops(images))
    return Start(net, stats, {})
