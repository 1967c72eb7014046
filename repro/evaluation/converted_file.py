"""Files of converted nets, which hold all that is needed to run them or convert them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repro.data.augment import PixelStats
from repro.errors import InputError, RunError
from repro.evaluation.weight_files import METADATA, PIXELS, head_of, is_safetensors, open_net
from repro.models.conversion.forms import Form
from repro.models.conversion.stored import form_of, structure_of, tensors_of
from repro.runtime import checkpoint
from repro.runtime.files import replacing

STRUCTURE = "structure"
"""The key of the metadata that only files of converted nets have."""


@dataclass(frozen=True)
class ConvertedNet:
    """A net in evaluation form with its origin.

    Args:
        about: The run, its net, settings and classes, as in the files of published nets.
        stats: The pixel statistics of the training images; None if they were not at hand.
    """

    form: Form
    about: Mapping[str, Any]
    stats: PixelStats | None


def write_converted(path: Path, net: ConvertedNet) -> None:
    """Write a converted net as safetensors, in float64, with its structure and origin as metadata.

    Raises:
        RunError: The file cannot be written.
    """
    from safetensors.torch import save

    named = dict(tensors_of(net.form))
    if net.stats is not None:
        stats = {"mean": net.stats.mean, "std": net.stats.std, "whitening": net.stats.whitening}
        named |= {f"{PIXELS}{name}": value for name, value in stats.items() if value is not None}
    # Copies, since several tensors may be parts of one, which the format does not allow.
    tensors = {name: value.clone(memory_format=torch.contiguous_format) for name, value in named.items()}
    digest = checkpoint.digest(dict(sorted(tensors.items())))
    about = {**net.about, STRUCTURE: structure_of(net.form), checkpoint.DIGEST: digest}
    with replacing(path, RunError) as file:
        file.write(save(tensors, {METADATA: json.dumps(about)}))


def read_converted(path: Path) -> ConvertedNet:
    """Read a converted net.

    Raises:
        InputError: The file cannot be read, is damaged, or was not written by ``write_converted``.
    """
    head = head_of(path)
    foreign = InputError(
        f"{path} was not written by `repro convert`: name a trained run, or the file of a net that it converted"
    )
    if not is_safetensors(head):
        raise foreign
    try:
        about, tensors = open_net(path)
    except InputError:
        raise
    except Exception as error:  # the library has no common type for its errors
        raise InputError(f"the weights {path} are damaged ({error})") from None
    if STRUCTURE not in about:
        raise foreign
    stats = None
    if f"{PIXELS}mean" in tensors:
        stats = PixelStats(tensors[f"{PIXELS}mean"], tensors[f"{PIXELS}std"], tensors.get(f"{PIXELS}whitening"))
    try:
        form = form_of(about[STRUCTURE], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the weights {path} do not have their structure ({error})") from None
    origin = {name: value for name, value in about.items() if name not in (STRUCTURE, checkpoint.DIGEST)}
    return ConvertedNet(form, origin, stats)
