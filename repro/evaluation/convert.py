"""The command ``repro convert``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tabulate import tabulate
from torch import nn

from repro.config.arguments import can_be_made, is_setting
from repro.config.compose import plan
from repro.config.parse import require
from repro.config.run import RunConfig
from repro.config.science import Science
from repro.errors import InputError, RunError
from repro.evaluation.command import SUFFIXES
from repro.evaluation.converted_file import ConvertedNet, read_converted, write_converted
from repro.evaluation.same_function import TOLERANCE, Comparison, ImageSet, compare, images_of
from repro.evaluation.stored_net import stored_net
from repro.evaluation.trained import from_run, record_of
from repro.models.blocks import BlockNet
from repro.models.conversion.cost import Cost, cost_of
from repro.models.conversion.fold import fold, obstacle
from repro.models.conversion.forms import Form, PlainForm, ResidualForm
from repro.models.conversion.plain import to_plain
from repro.models.conversion.residual import to_residual
from repro.models.count import measure
from repro.runtime.device import set_up
from repro.runtime.files import check_writable, make_folder
from repro.runtime.log import notice

log = logging.getLogger(__name__)

MOST = 10_000
"""The most images of a comparison in float32; a tenth of them are compared in float64, which is slower."""
WORK = 4e12
"""The most multiply-adds of both nets on these images: some minutes on two cores."""
FLIPS = 20
"""The most images in a list."""


@dataclass(frozen=True)
class Source:
    """A net to convert: as it was trained or stored, and in evaluation form."""

    name: str
    label: str
    config: RunConfig
    net: BlockNet | Form
    stored: ConvertedNet


def convert(words: Sequence[str], *, to: str, out: Path | None = None, images: int | None = None) -> int:
    """Convert a trained net, compare it with the original, and write its file; return the exit code.

    Args:
        words: A run id, or the file of a converted net; and settings as ``key=value``.
        to: ``plain`` or ``residual``.
        out: The file to write.
        images: The number of test images for the comparison in both precisions.

    Raises:
        InputError: The words do not name a net, or it cannot be converted.
        RunError: The two nets do not compute the same, or the file cannot be written.
    """
    names, settings = check_words(words, images)
    base = plan(settings).runs[0]
    set_up(dataclasses.replace(base.execution, device="cpu"), "fp32")
    file = Path(names[0])
    source = from_file(file, base, to) if is_file(names[0]) else from_trained(names[0], base, to)
    path = out or (beside(file, to) if is_file(names[0]) else default_path(base, source.name, to))
    require(path.resolve() != file.resolve(), f"--out {path} is the file to convert: name another")
    check_writable("--out", out)
    require(can_be_made(path.parent), f"{path.parent} takes no files: name another file with --out")
    size = source.config.data.image_size
    form, notes = converted(source.stored.form, to, size)
    log.info(f"{source.name}: {source.label}, converted to a {to} net")
    for note in notes:
        log.info(note)
    costs = {"before": cost_before(source), f"{to} net": cost_of(form, size)}
    log.info("\n" + table(costs) + "\n")
    num64, num32 = (images, images) if images else usual_images(sum(cost.macs for cost in costs.values()))
    pixels = images_of(source.config, source.stored.stats)
    notice(f"comparing both nets on {pixels.text}")
    found = compare(source.net, form, pixels, num64, num32)
    for line in report(found, pixels, source.stored.about["classes"]):
        log.info(line)
    if not found.equal:
        raise RunError(
            f"the {to} net of {source.name} differs from the original by {found.difference:.2g} in float64, more than "
            f"{TOLERANCE:g}: nothing is written"
        )
    make_folder(path.parent, RunError)
    write_converted(path, dataclasses.replace(source.stored, form=form))
    log.info(f"wrote {path}")
    return 0


def check_words(words: Sequence[str], images: int | None) -> tuple[list[str], list[str]]:
    """Return the names and the settings among the words, or raise ``InputError``."""
    names = [word for word in words if not is_setting(word)]
    settings = [word for word in words if is_setting(word)]
    named = "name one trained run (`repro status` lists them), or one file of `repro convert`"
    require(len(names) == 1, f"{named}; {len(names)} are named")
    for word in settings:
        known = word.startswith(("paths.", "execution"))
        require(known, f"{word!r} cannot be set for a trained net: leave it out")
    require(images is None or images > 0, f"--images {images} must be above 0")
    return names, settings


def is_file(name: str) -> bool:
    return name.endswith(SUFFIXES) or Path(name).is_file()


def beside(file: Path, to: str) -> Path:
    """Return the path of a converted file beside its origin."""
    stem = file.name.removesuffix(".safetensors").removesuffix("-plain").removesuffix("-residual")
    return file.with_name(f"{stem}-{to}.safetensors")


def default_path(base: RunConfig, run_id: str, to: str) -> Path:
    return base.paths.work / "converted" / f"{run_id}-{to}.safetensors"


def from_trained(name: str, base: RunConfig, to: str) -> Source:
    """Load the net of a run and fold its batch norms.

    Raises:
        InputError: The run or its weights do not exist, or it has no such conversion.
        RunError: The checkpoint is damaged.
    """
    record = record_of(name, base)
    model, label, run_id = record.science.model, record.label, record.run_id
    if reason := obstacle(model):
        raise InputError(f"{run_id} is a {label} and cannot be converted: {reason}")
    is_plain = model.shortcut == "none"
    require(to == "residual" or not is_plain, f"{run_id} is a {label}, which has no shortcuts: use --to residual")
    require(
        to == "plain" or is_plain,
        f"{run_id} is a {label}, which has shortcuts already: --to plain converts it, and the file that this writes "
        "can be converted back with --to residual",
    )
    trained = from_run(record, base)
    try:
        stored = stored_net(record, base.paths.work, base.paths.results, base.paths.data)
        stats, classes = stored.stats, stored.classes
    except InputError:  # the images are missing, from which the statistics would be computed
        stats, classes = None, tuple(map(str, range(len(trained.weights["fc.weight"]))))
    net = trained.build(len(classes), torch.device("cpu"))
    about = {"run_id": run_id, "net": label, "settings": record.science.to_dict(), "classes": list(classes)}
    form: Form = fold(net)
    if is_plain:
        form = to_plain(fold(net), record.science.data.image_size)
    return Source(run_id, label, trained.config, net, ConvertedNet(form, about, stats))


def from_file(file: Path, base: RunConfig, to: str) -> Source:
    """Read the file of a converted net.

    Raises:
        InputError: The file is another kind of file, or its net has this form already.
    """
    stored = read_converted(file)
    form = "plain" if isinstance(stored.form, PlainForm) else "residual"
    require(form != to, f"{file} is a {form} net already: --to {'residual' if form == 'plain' else 'plain'} changes it")
    science = Science.from_dict(stored.about["settings"])
    config = dataclasses.replace(base, model=science.model, data=science.data, optim=science.optim, eval=science.eval)
    return Source(str(file), f"{form} form of {stored.about['net']}", config, stored.form, stored)


def converted(form: Form, to: str, image_size: int) -> tuple[Form, list[str]]:
    """Convert a form; return it with sentences on what stays as it is."""
    if to == "plain":
        assert isinstance(form, ResidualForm)
        return to_plain(form, image_size), []
    assert isinstance(form, PlainForm)
    return to_residual(form)


def usual_images(macs: int) -> tuple[int, int]:
    """Return how many images are compared in float64 and in float32, from the multiply-adds of both nets."""
    num32 = max(10, min(MOST, int(WORK / macs)))
    return num32 // 10, num32


def cost_before(source: Source) -> Cost:
    """Count the net as it was trained, with its batch norms, or as it was stored."""
    config = source.config
    if not isinstance(source.net, nn.Module):
        return cost_of(source.net, config.data.image_size)
    size = measure(config.model, config.data.image_size, len(source.stored.about["classes"]))
    return Cost(size.params, sum(int(p.count_nonzero()) for p in source.net.parameters()), size.macs)


def table(costs: dict[str, Cost]) -> str:
    """Format the costs of the nets, and how many times the last is as large as the first."""
    rows = [[name, *(f"{n:,}" for n in dataclasses.astuple(cost))] for name, cost in costs.items()]
    first, last = (dataclasses.astuple(cost) for cost in (next(iter(costs.values())), list(costs.values())[-1]))
    rows.append(["times", *(f"{b / a:.2f}" for a, b in zip(first, last, strict=True))])
    headings = ["net", "parameters", "not zero", "multiply-adds"]
    text: str = tabulate(rows, headings, tablefmt="simple", colalign=("left", *["right"] * 3), disable_numparse=True)
    return text


def report(found: Comparison, images: ImageSet, classes: Sequence[str]) -> list[str]:
    """Say how alike the two nets are."""
    lines = [
        f"images: {images.text}",
        f"float64, {found.images64:,} images: the logits differ by at most {found.difference:.2g} (the largest is "
        f"{found.largest:.3g})",
    ]
    errors = f"{found.errors_before:,} errors before, {found.errors_after:,} after, " if images.are_real else ""
    count = len(found.flips)
    lines.append(f"float32, {found.images32:,} images: {errors}{count:,} predictions differ")
    for flip in found.flips[:FLIPS]:
        label = f" of class {classes[flip.label]}" if images.are_real else ""
        lines.append(
            f"  image {flip.image}{label}: {classes[flip.before]} by {flip.margin_before:.2g} before, "
            f"{classes[flip.after]} by {flip.margin_after:.2g} after"
        )
    return [*lines, f"  and {count - FLIPS:,} more"] if count > FLIPS else lines
