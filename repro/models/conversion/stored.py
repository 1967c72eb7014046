"""The tensors of a form by name, and its structure as JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from repro.models.conversion.fold import identity
from repro.models.conversion.forms import (
    Affine,
    Block,
    Conv,
    Cut,
    Form,
    PlainForm,
    ResidualForm,
    Shortcut,
    padded_identity,
)


def tensors_of(form: Form) -> dict[str, Tensor]:
    """Return everything that a form has learned, by name; identities are left out."""
    named: dict[str, Tensor] = {}

    def add(prefix: str, part: Conv | Affine) -> None:
        named.update({f"{prefix}.{name}": value for name, value in vars(part).items() if isinstance(value, Tensor)})

    if isinstance(form, PlainForm):
        for number, layer in enumerate(form.layers):
            add(f"layers.{number}", layer)
    else:
        add("stem", form.stem)
        for number, block in enumerate(form.blocks):
            prefix = f"blocks.{number}"
            for place, conv in enumerate(block.convs):
                add(f"{prefix}.convs.{place}", conv)
            if block.shortcut is not None and block.shortcut.zeros_before is None:
                named[f"{prefix}.shortcut.weight"] = block.shortcut.weight
            if block.entry is not None and not block.entry.is_identity:
                add(f"{prefix}.entry", block.entry)
        if form.last is not None and not form.last.is_identity:
            add("last", form.last)
    return {**named, "fc.weight": form.fc_weight, "fc.bias": form.fc_bias}


def structure_of(form: Form) -> dict[str, Any]:
    """Return everything else that a form needs: strides, poolings, and the cut of a plain net."""
    if isinstance(form, PlainForm):
        return {
            "form": "plain",
            "pool_padding": form.pool_padding,
            "strides": [layer.stride for layer in form.layers],
            "cut": [dataclasses.asdict(cut) for cut in form.cut],
        }
    return {
        "form": "residual",
        "pool_padding": form.pool_padding,
        "stem_stride": form.stem.stride,
        "blocks": [
            {
                "strides": [conv.stride for conv in block.convs],
                "relu": block.relu,
                "enters": block.entry is not None,
                "splits_after": block.splits_after,
                "has_shortcut": block.shortcut is not None,
                "pools": block.shortcut is not None and block.shortcut.pools,
                "zeros_before": None if block.shortcut is None else block.shortcut.zeros_before,
            }
            for block in form.blocks
        ],
        "activates": form.last is not None,
    }


def form_of(structure: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Form:
    """Rebuild a form.

    Raises:
        KeyError: A tensor or a part of the structure is missing.
        TypeError, ValueError: A part of the structure is of another kind.
    """

    def conv(name: str, stride: int) -> Conv:
        return Conv(tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride)

    padding, fc = structure["pool_padding"], (tensors["fc.weight"], tensors["fc.bias"])
    if structure["form"] == "plain":
        layers = tuple(conv(f"layers.{number}", stride) for number, stride in enumerate(structure["strides"]))
        lists = ("kernels", "features", "holds")
        cut = tuple(Cut(**{**one, **{name: tuple(one[name]) for name in lists}}) for one in structure["cut"])
        return PlainForm(layers, padding, *fc, cut)

    def entry(name: str, channels: int) -> Affine:
        if f"{name}.scale" not in tensors:
            return identity(channels)
        return Affine(tensors[f"{name}.scale"], tensors[f"{name}.shift"])

    blocks = []
    for number, about in enumerate(structure["blocks"]):
        prefix = f"blocks.{number}"
        convs = tuple(conv(f"{prefix}.convs.{place}", stride) for place, stride in enumerate(about["strides"]))
        sizes = len(convs[-1].weight), convs[0].weight.shape[1]
        before = about["zeros_before"]
        shortcut = None
        if about["has_shortcut"]:
            weight = tensors[f"{prefix}.shortcut.weight"] if before is None else padded_identity(*sizes, before)
            shortcut = Shortcut(weight, about["pools"])
        entered = entry(f"{prefix}.entry", sizes[1]) if about["enters"] else None
        blocks.append(Block(convs, shortcut, about["relu"], entered, about["splits_after"]))
    last = entry("last", fc[0].shape[1]) if structure["activates"] else None
    return ResidualForm(conv("stem", structure["stem_stride"]), padding, tuple(blocks), last, *fc)
