"""Final nets with their pixel statistics and classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repro.config.science import DataConfig
from repro.data import Dataset, Split, class_names, load
from repro.data.augment import PixelStats
from repro.data.in_memory import split_stats, to_device
from repro.errors import InputError, RunError
from repro.evaluation.weight_files import METADATA, PIXELS, open_net, read_weights
from repro.results.localization_record import LocalizationRecord
from repro.results.read import AnyRecord, read_any
from repro.results.record import Record
from repro.results.stored import RECORD
from repro.runtime import checkpoint
from repro.runtime.files import replacing

PUBLISHED = ("weights.safetensors", "weights.pt")
"""Files beside a published record: the first is written now, the second was written by older code."""


@dataclass(frozen=True)
class StoredNet:
    """The weights of a finished run, the pixel statistics of its training images, and its class names by label."""

    weights: Mapping[str, Tensor]
    stats: PixelStats
    classes: tuple[str, ...]


def weights_of(run_id: str, work: Path, results: Path) -> Mapping[str, Tensor]:
    """Load the final weights of a run from the work folder, or else those beside its published record.

    Raises:
        InputError: The weights do not exist.
        RunError: The checkpoint is damaged.
    """
    path = file_of(run_id, work, results)
    weights: Mapping[str, Tensor] = (
        checkpoint.load(path)["model"] if path.name == checkpoint.FINAL else read_weights(path).weights
    )
    return weights


def file_of(run_id: str, work: Path, results: Path) -> Path:
    final = work / run_id / checkpoint.FINAL
    published = [results / "runs" / run_id / name for name in PUBLISHED]
    for path in (final, *published):
        if path.is_file():
            return path
    raise InputError(
        f"the weights of {run_id} are missing: neither {final} nor {published[0]} exists; train the run again with "
        "the command in its record (`repro publish --weights` would have kept them)"
    )


def stored_net(record: Record, work: Path, results: Path, data: Path) -> StoredNet:
    """Load the final net of a run; statistics missing in its file are computed from its training images.

    Raises:
        InputError: Weights or training images do not exist.
        RunError: The checkpoint is damaged.
    """
    path = file_of(record.run_id, work, results)
    weights, config = weights_of(record.run_id, work, results), record.science.data
    if path.suffix == ".safetensors":
        return safetensors_net(path, weights)
    dataset = load(config, data, may_fetch=False, cache=work / "cache")
    return StoredNet(weights, stats_of(dataset, config), class_names(dataset))


def stats_of(dataset: Dataset, config: DataConfig) -> PixelStats:
    """Compute the statistics of the training images, as in training."""
    cpu = torch.device("cpu")
    if isinstance(dataset.train, Split):
        return split_stats(dataset.train, to_device(dataset.train, cpu)[0], config)
    assert dataset.photo_stats is not None
    from repro.data.imagenet.loader import pixel_stats as photo_pixel_stats

    assert dataset.photo_stats is not None
    return photo_pixel_stats(dataset.photo_stats, config.mean, config.std, cpu)


def safetensors_net(path: Path, weights: Mapping[str, Tensor]) -> StoredNet:
    """Return the net in a published file with these weights, whose statistics and classes it contains."""
    about, tensors = open_net(path)
    stats = PixelStats(tensors[f"{PIXELS}mean"], tensors[f"{PIXELS}std"], tensors.get(f"{PIXELS}whitening"))
    return StoredNet(weights, stats, tuple(about["classes"]))


def tested(record: AnyRecord) -> dict[str, object]:
    """Return the number of a run for a file of its net."""
    if isinstance(record, Record):
        final = record.result.final
        return {"error": {"split": final.split, "top1_error": final.top1_error, "images": final.images}}
    if isinstance(record, LocalizationRecord):
        views = {view.view: view.error for view in record.localization.views}
        return {"error": {"split": record.localization.split, "images": record.localization.images, **views}}
    result = record.detection
    values = {"split": result.split, "metric": result.metric, "map": result.map, "images": result.images}
    return {"precision": values}


def write_net(path: Path, record: AnyRecord, net: StoredNet) -> None:
    """Write a net as safetensors, with its settings, classes, run and error as metadata.

    Raises:
        RunError: The file cannot be written.
    """
    from safetensors.torch import save

    # torch's counters of batches are left out, since nothing reads them.
    tensors = {name: value.contiguous() for name, value in net.weights.items() if value.is_floating_point()}
    stats = {"mean": net.stats.mean, "std": net.stats.std, "whitening": net.stats.whitening}
    tensors |= {f"{PIXELS}{name}": value.contiguous() for name, value in stats.items() if value is not None}
    about = {
        "run_id": record.run_id,
        "net": record.label,
        "fingerprint": record.fingerprint,
        "numerics_version": record.numerics_version,
        "settings": record.science.to_dict(),
        "classes": list(net.classes),
        **tested(record),
        "commit": record.provenance.commit,
        checkpoint.DIGEST: checkpoint.digest(dict(sorted(tensors.items()))),
    }
    # A single key keeps the bytes of the file reproducible: several would be written in random order.
    content = save(tensors, {METADATA: json.dumps(about)})
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror})") from error


# --- publishing ---------------------------------------------------------------------------------------------------


def plan_weights(run_ids: Sequence[str], work: Path, results: Path, *, replace: bool = False) -> list[str]:
    """Return the runs whose final nets are not published yet.

    Raises:
        InputError: A final checkpoint does not exist, or another net of the run is published and ``replace`` is false.
        RunError: A final checkpoint is damaged.
    """
    new = []
    for run_id in run_ids:
        mine, path = final_net(run_id, work), results / "runs" / run_id / PUBLISHED[0]
        if path.exists() and is_net(path, mine):
            continue
        if path.exists() and not replace:
            raise InputError(
                f"{path} is not the net of {work / run_id}; `repro publish --weights --replace` overwrites it"
            )
        new.append(run_id)
    return new


def publish_weights(run_id: str, paths: Mapping[str, Path]) -> Path:
    """Write the final net of a run beside its published record, without the rest of the checkpoint.

    Raises:
        InputError: The final checkpoint or the training images do not exist.
        RunError: The checkpoint is damaged, or the file cannot be written.
    """
    final_net(run_id, paths["work"])
    work, results = paths["work"], paths["results"]
    record = read_any(work / run_id / RECORD)
    path = results / "runs" / run_id / PUBLISHED[0]
    if isinstance(record, Record):
        net = stored_net(record, work, results, paths["data"])
    else:
        net = detector_net(run_id, work, results)
    write_net(path, record, net)
    return path


def detector_net(run_id: str, work: Path, results: Path) -> StoredNet:
    """Load the final detector of a run from the work folder, or else that beside its published record.

    Raises:
        InputError: The weights do not exist, or were written by code that kept no pixel statistics.
        RunError: The checkpoint is damaged.
    """
    final, published = work / run_id / checkpoint.FINAL, results / "runs" / run_id / PUBLISHED[0]
    remedy = "train the run again with the command in its record"
    if not final.is_file() and published.is_file():
        return safetensors_net(published, read_weights(published).weights)
    if not final.is_file():
        raise InputError(f"the weights of {run_id} are missing: neither {final} nor {published} exists; {remedy}")
    stored = checkpoint.load(final)
    if "pixels" not in stored:
        raise InputError(f"{final} was written by older code, without pixel statistics and classes: {remedy}")
    stats = PixelStats(stored["pixels"]["mean"], stored["pixels"]["std"])
    return StoredNet(stored["model"], stats, tuple(stored["classes"]))


def is_net(path: Path, weights: Mapping[str, Tensor]) -> bool:
    """Return whether a file has exactly these weights."""
    try:
        published = read_weights(path).weights
    except InputError:
        return False
    # Integers are torch's counters of batches, which ``read_weights`` leaves out.
    mine = {name: value for name, value in weights.items() if value.is_floating_point()}
    return checkpoint.digest(dict(sorted(published.items()))) == checkpoint.digest(dict(sorted(mine.items())))


def final_net(run_id: str, work: Path) -> Mapping[str, Tensor]:
    """Load the weights of a finished run from the work folder."""
    final = work / run_id / checkpoint.FINAL
    if not final.is_file():
        raise InputError(f"the weights of {run_id} cannot be published: {final} does not exist")
    return weights_of(run_id, work, work)
