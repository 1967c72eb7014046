"""Table 1, counted here and now: the layers, multiply-adds and parameters of the ImageNet nets as they are built.

Nothing is a copy of the architecture: layers are read off the modules, sizes off a forward pass without numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.config.parse import build
from repro.config.run import ModelConfig
from repro.models import build_model
from repro.models.count import Size, measure
from repro.papers import PaperRow, PaperTable, Run, load_recipe, load_table
from repro.report.tables.csv import csv_text, rounded
from repro.report.tables.grid import Cell, Grid, grid_to_latex, grid_to_markdown, signed

NUMBER = 1
IMAGE_SIZE = 224
NUM_CLASSES = 1000
OPTIONS = ("none", "A", "B", "C")
STAGES = ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x")


@dataclass(frozen=True)
class Net:
    """A net that was counted; ``stages`` are its layers as ``experiments/table1.toml`` writes them."""

    config: ModelConfig
    stages: Mapping[str, str]
    size: Size

    @property
    def option(self) -> str:
        """Its shortcut, and the place of a bottleneck's stride where that is not the paper's (D16)."""
        stride = "" if self.config.stride_in == "1x1" else f", stride in the {self.config.stride_in}"
        return ("plain" if self.config.shortcut == "none" else self.config.shortcut) + stride

    @property
    def gflops(self) -> float:
        """Multiply-adds of one image in units of 1e9: the paper's FLOPs."""
        return self.size.macs / 1e9


@dataclass(frozen=True)
class Line:
    """A row of the table with the nets that were counted for it, the one that the paper means first."""

    row: PaperRow
    nets: tuple[Net, ...]

    @property
    def published(self) -> float:
        """Multiply-adds in units of 1e9, as printed."""
        return self.row.paper["gflops"].headline

    def difference(self, net: Net) -> float | None:
        """Counted minus published multiply-adds, in percent of the published ones; None for a net that is not meant.

        The paper prints one value a depth; its nets of 50 layers and more all have option B (section 4.1).
        """
        if net.config.bottleneck and net.config.shortcut != self.nets[0].config.shortcut:
            return None
        return 100 * (net.gflops - self.published) / self.published


@dataclass(frozen=True)
class Architecture:
    """Table 1 of the paper and what its nets come to."""

    paper: PaperTable
    lines: tuple[Line, ...]

    @property
    def vgg19(self) -> float:
        """The published multiply-adds of VGG-19, in units of 1e9: what section 3.3 compares with."""
        return next(line.published for line in self.lines if line.row.label == "VGG-19")


def architecture() -> Architecture:
    """Table 1 from the models, with every shortcut option; bottleneck nets with either place of the stride (D16)."""
    paper = load_table(NUMBER)
    return Architecture(paper, tuple(Line(row, _nets(row)) for row in paper.rows))


def _nets(row: PaperRow) -> tuple[Net, ...]:
    if row.net is None:
        return ()
    variants: list[Run] = [{}]
    if row.stages:
        variants += [{"model.shortcut": option} for option in OPTIONS if option != row.net["model.shortcut"]]
        variants += [{"model.stride_in": "3x3"}] * _config(row.net).bottleneck
    configs = [_config({**row.net, **variant}) for variant in variants]
    return tuple(Net(config, stages(config), measure(config, IMAGE_SIZE, NUM_CLASSES)) for config in configs)


def _config(net: Run) -> ModelConfig:
    fields = {**load_recipe("imagenet_recipe").fields, **net}
    model: ModelConfig = build(
        ModelConfig, {k.removeprefix("model."): v for k, v in fields.items() if k.startswith("model.")}
    )
    return model


def stages(config: ModelConfig) -> dict[str, str]:
    """By stage, the size of its output, the layers of a block and the number of blocks, read off the built net."""
    sizes: list[str] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(f"{output.shape[2]}x{output.shape[3]}")

    with torch.device("meta"):
        model = build_model(config, NUM_CLASSES).eval()
        image = torch.empty(1, 3, IMAGE_SIZE, IMAGE_SIZE)
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
    """``3x3 64, 3x3 64; 2 blocks``; blocks of different layers would each be named."""
    if isinstance(chain[0], nn.Conv2d):
        return _layer(chain[0])
    texts = []
    for block in chain:
        layers = [module for module in block.children() if isinstance(module, nn.Conv2d)]
        texts.append(", ".join(map(_layer, layers)))
    return " | ".join(f"{text}; {texts.count(text)} blocks" for text in dict.fromkeys(texts))


def _layer(layer: nn.Conv2d) -> str:
    return f"{layer.kernel_size[0]}x{layer.kernel_size[1]} {layer.out_channels}"


def grid(table: Architecture) -> Grid:
    """One line a net; what is the same for all nets of a row stands in its first line only."""
    costs = ("FLOPs, paper (1e9)", "Counted (1e9)", "Difference (%)", "Parameters")
    header = ("Net", "Shortcut", *STAGES, *costs, "of VGG-19, paper (%)", "of VGG-19, counted (%)")
    rows = []
    for line in table.lines:
        label, printed = line.row.label + " (cited)" * line.row.cited, f"{line.published:.1f}"
        if not line.nets:
            rows.append([label, *[""] * (1 + len(STAGES)), printed, *[""] * 5])
        for net in line.nets:
            counted = [f"{net.gflops:.3f}", signed(line.difference(net), 1), f"{net.size.params:,}"]
            if net is line.nets[0]:
                layers = [net.stages[stage] if line.row.stages else "" for stage in STAGES]
                rows.append([label, net.option, *layers, printed, *counted, *_shares(table, line)])
            else:
                rows.append(["", net.option, *[""] * len(STAGES), "", *counted, "", ""])
    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    numeric = frozenset(range(2 + len(STAGES), len(header)))
    return Grid(NUMBER, table.paper.title, header, cells, numeric, tuple(notes(table)))


def _shares(table: Architecture, line: Line) -> tuple[str, str]:
    """The cost in percent of VGG-19's, published and counted, where the paper prints it."""
    share = line.row.paper.get("percent_of_vgg19")
    return ("", "") if share is None else (f"{share.headline:g}", f"{100 * line.nets[0].gflops / table.vgg19:.1f}")


def notes(table: Architecture) -> list[str]:
    """What the counts say: whether layers are as printed, which values are cut off, which nets are of one size."""
    texts = [
        f"Setting: {table.paper.setting}. FLOPs are multiply-adds of convolutions and the fully connected layer; "
        "parameters include batch-norm scales and shifts and the last layer's biases.",
    ]
    nets = [line for line in table.lines if line.row.stages]
    other = [line.row.label for line in nets if any(net.stages != line.row.stages for net in line.nets)]
    texts.append(
        f"Not the layers that the paper prints: {', '.join(other)}." if other else "All layers are as printed."
    )
    for line in nets:
        gflops, printed = line.nets[0].gflops, line.published
        if round(gflops, 1) != printed:
            how = "cut off, not rounded" if int(gflops * 10) / 10 == printed else "no rounding of it"
            texts.append(f"{line.row.label}: {gflops:.3f} counted, {printed} printed: {how}.")
    same = [line for line in nets if _size(line, "none") == _size(line, "A")]
    sizes = ", ".join(f"{line.row.label} {_size(line, 'A').params:,}" for line in same)
    texts.append(
        f"The plain net and option A have the same multiply-adds and the same parameters: {sizes or 'nowhere'}."
    )
    return texts


def _size(line: Line, shortcut: str) -> Size:
    return next(net.size for net in line.nets if net.config.shortcut == shortcut)


def to_markdown(table: Architecture) -> str:
    """The table with its notes below."""
    return grid_to_markdown(grid(table))


def to_latex(table: Architecture) -> str:
    """A ``table`` environment."""
    return grid_to_latex(grid(table))


def to_csv(table: Architecture) -> str:
    """One line a net that was counted, and one a cited net; an empty cell where there is no number."""
    lines: list[dict[str, object]] = []
    for line in table.lines:
        share = line.row.paper.get("percent_of_vgg19")
        common = {
            "net": line.row.label,
            "cited": str(line.row.cited).lower(),
            "paper_gflops": line.published,
            "paper_percent_of_vgg19": None if share is None else share.headline,
        }
        for net in line.nets:
            counted = {
                "shortcut": net.option,
                "counted_gflops": net.gflops,
                "difference_percent": rounded(line.difference(net)),
                "params": net.size.params,
                "percent_of_vgg19": rounded(100 * net.gflops / table.vgg19),
            }
            lines.append({**common, **counted, **(net.stages if line.row.stages else {})})
        if not line.nets:
            lines.append(common)
    return csv_text(lines)


FORMATS: dict[str, Callable[[Architecture], str]] = {"md": to_markdown, "csv": to_csv, "tex": to_latex}
