"""Published nets for ``torch.hub.load(<owner>/<repository>, "load", "cifar10-resnet20-s0")``."""

dependencies = ["torch", "torchvision", "numpy", "pandas", "PIL", "safetensors"]

from repro.api import load  # noqa: E402, F401
