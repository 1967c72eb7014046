"""The CIFAR nets of Wide Residual Networks."""

from __future__ import annotations

from repro.config.run import ModelConfig
from repro.models.preact import CIFAR_CHANNELS, Layer, OrderedNet


class WideResNet(OrderedNet):
    """A pre-activation net whose stages have ``width`` times the filters (Wide ResNet, section 2 and Table 1).

    The depth counts the layers in blocks, the first convolution and the three projections. All layers of a block have
    the same number of filters, and the kernel sizes of B(…); the first layer has the stride.
    """

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        num_blocks = (config.depth - 4) // (3 * config.block_layers)
        stages = []
        for number, channels in enumerate(CIFAR_CHANNELS):
            rest = [Layer(kernel, int(channels * config.width), 1) for kernel in config.kernels]
            first = [rest[0]._replace(stride=2 if number > 0 else 1), *rest[1:]]
            stages.append([first] + [rest for _ in range(num_blocks - 1)])
        super().__init__(config, num_classes, stages, "full", config.dropout)
