"""Table 1, counted on the nets as they are built.

No architecture is copied here: layers are read from the modules, sizes from a forward pass on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.config.run import ModelConfig, Science
from repro.models import build_model
from repro.models.count import Size, measure, skip_norms
from repro.papers import PaperRow, Run, load_recipe, load_table
from repro.report.tables.frame import Cell, Frame, rounded, signed

NUMBER = 1
IMAGE_SIZE = 224
NUM_CLASSES = 1000
OPTIONS = ("none", "A", "B", "C")
STAGES = ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x")
COSTS = ("FLOPs, paper (1e9)", "Counted (1e9)", "Difference (%)", "Parameters")
COLUMNS = ("Net", "Shortcut", *STAGES, *COSTS, "of VGG-19, paper (%)", "of VGG-19, counted (%)")


@dataclass(frozen=True)
class Net:
    """A counted net; ``stages`` are its layers in the notation of ``experiments/resnet/table1.toml``."""

    config: ModelConfig
    stages: Mapping[str, str]
    size: Size

    @property
    def option(self) -> str:
        """The shortcut, and the place of a bottleneck's stride if it is not the paper's (D16)."""
        stride = "" if self.config.stride_in == "1x1" else f", stride in the {self.config.stride_in}"
        return ("plain" if self.config.shortcut == "none" else self.config.shortcut) + stride

    @property
    def gflops(self) -> float:
        """Multiply-adds of one image in units of 1e9: the paper's FLOPs."""
        return self.size.macs / 1e9


@dataclass(frozen=True)
class Line:
    """A row of the table with its counted nets, the paper's net first."""

    row: PaperRow
    nets: tuple[Net, ...]

    @property
    def published(self) -> float:
        """Multiply-adds in units of 1e9, as printed."""
        return self.row.paper["gflops"].headline

    def difference(self, net: Net) -> float | None:
        """Return counted minus published multiply-adds, in percent; None for a net that is not the paper's.

        The paper prints one value per depth; its nets of 50 or more layers all have option B (section 4.1).
        """
        if net.config.bottleneck and net.config.shortcut != self.nets[0].config.shortcut:
            return None
        return 100 * (net.gflops - self.published) / self.published


def architecture() -> Frame:
    """Return Table 1 from the models, with every shortcut option and, for bottleneck nets, both strides (D16)."""
    return frame(count())


def count() -> list[Line]:
    """Build and count every net of the table."""
    return [Line(row, _nets(row)) for row in load_table(NUMBER).rows]


def _nets(row: PaperRow) -> tuple[Net, ...]:
    if row.net is None:
        return ()
    variants: list[Run] = [{}]
    if row.stages:
        variants += [{"model.shortcut": option} for option in OPTIONS if option != row.net["model.shortcut"]]
        variants += [{"model.stride_in": "3x3"}] if _config(row.net).bottleneck else []
    configs = [_config({**row.net, **variant}) for variant in variants]
    return tuple(Net(config, stages(config), measure(config, IMAGE_SIZE, NUM_CLASSES)) for config in configs)


def _config(net: Run) -> ModelConfig:
    return Science.from_flat({**load_recipe("imagenet_recipe").fields, **net}).model


def stages(config: ModelConfig) -> dict[str, str]:
    """Return output size, layers of a block and number of blocks by stage, read from the built net."""
    sizes: list[str] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(f"{output.shape[2]}x{output.shape[3]}")

    with torch.device("meta"):
        model = build_model(config, NUM_CLASSES).eval()
        image = torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    skip_norms(model)
    chains: list[list[nn.Module]] = [
        [model.get_submodule(STAGES[0])],
        *(list(stage.children()) for stage in model.stages),
    ]
    for chain in chains:
        chain[-1].register_forward_hook(keep)
    with torch.no_grad():
        model(image)
    named = zip(STAGES, sizes, chains, strict=True)
    return {stage: f"{size}: {_layers(chain)}" for stage, size, chain in named}


def _layers(chain: list[nn.Module]) -> str:
    """Return ``3x3 64, 3x3 64; 2 blocks``; different blocks are listed separately."""
    if isinstance(chain[0], nn.Conv2d):
        return _layer(chain[0])
    texts = []
    for block in chain:
        layers = [module for module in block.children() if isinstance(module, nn.Conv2d)]
        texts.append(", ".join(map(_layer, layers)))
    return " | ".join(f"{text}; {texts.count(text)} blocks" for text in dict.fromkeys(texts))


def _layer(layer: nn.Conv2d) -> str:
    return f"{layer.kernel_size[0]}x{layer.kernel_size[1]} {layer.out_channels}"


def frame(lines: Sequence[Line]) -> Frame:
    """Return one row per net; values shared by the nets of a line are in its first row only."""
    paper = load_table(NUMBER)
    # Section 3.3 compares with the published multiply-adds of VGG-19.
    vgg19 = next(line.published for line in lines if line.row.label == "VGG-19")
    rows, values = [], []
    for line in lines:
        for net in line.nets or (None,):
            rows.append(dict(zip(COLUMNS, map(Cell, _texts(line, net, vgg19)), strict=True)))
            values.append(_values(line, net, vgg19))
    return Frame(NUMBER, paper.title, rows, values, COLUMNS[: 2 + len(STAGES)], tuple(notes(lines, paper.setting)))


def _texts(line: Line, net: Net | None, vgg19: float) -> list[str]:
    row, share = line.row, line.row.paper.get("percent_of_vgg19")
    label, printed = f"{row.label} (cited)" if row.cited else row.label, f"{line.published:.1f}"
    if net is None:
        return [label, *[""] * (1 + len(STAGES)), printed, *[""] * 5]
    counted = [f"{net.gflops:.3f}", signed(line.difference(net), 1), f"{net.size.params:,}"]
    if net is not line.nets[0]:
        return ["", net.option, *[""] * len(STAGES), "", *counted, "", ""]
    layers = [net.stages[stage] if row.stages else "" for stage in STAGES]
    shares = ["", ""] if share is None else [f"{share.headline:g}", f"{100 * net.gflops / vgg19:.1f}"]
    return [label, net.option, *layers, printed, *counted, *shares]


def _values(line: Line, net: Net | None, vgg19: float) -> dict[str, object]:
    share = line.row.paper.get("percent_of_vgg19")
    values: dict[str, object] = {
        "net": line.row.label,
        "cited": str(line.row.cited).lower(),
        "paper_gflops": line.published,
        "paper_percent_of_vgg19": None if share is None else share.headline,
    }
    if net is None:
        return values
    counted = {
        "shortcut": net.option,
        "counted_gflops": net.gflops,
        "difference_percent": rounded(line.difference(net)),
        "params": net.size.params,
        "percent_of_vgg19": rounded(100 * net.gflops / vgg19),
    }
    return {**values, **counted, **(net.stages if line.row.stages else {})}


def notes(lines: Sequence[Line], setting: str) -> list[str]:
    """Return notes on layers that differ from the paper's, truncated values, and nets of equal size."""
    texts = [
        f"Setting: {setting}. FLOPs are multiply-adds of convolutions and the fully connected layer; "
        "parameters include batch-norm scales and shifts and the last layer's biases.",
    ]
    nets = [line for line in lines if line.row.stages]
    other = [line.row.label for line in nets if any(net.stages != line.row.stages for net in line.nets)]
    texts.append(f"Layers differ from the paper's: {', '.join(other)}." if other else "All layers are as printed.")
    for line in nets:
        gflops, printed = line.nets[0].gflops, line.published
        if round(gflops, 1) != printed:
            how = "truncated, not rounded" if int(gflops * 10) / 10 == printed else "neither rounded nor truncated"
            texts.append(f"{line.row.label}: {gflops:.3f} counted, {printed} printed: {how}.")
    same = [line for line in nets if _size(line, "none") == _size(line, "A")]
    sizes = ", ".join(f"{line.row.label} {_size(line, 'A').params:,}" for line in same)
    texts.append(f"The plain net and option A have the same multiply-adds and parameters: {sizes or 'nowhere'}.")
    return texts


def _size(line: Line, shortcut: str) -> Size:
    return next(net.size for net in line.nets if net.config.shortcut == shortcut)
