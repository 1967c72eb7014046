"""Registration of nets of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from repro.config.families import FAMILIES, own_family
from repro.config.run import ModelConfig
from repro.models.blocks import BlockNet

Net = TypeVar("Net", bound=type[BlockNet])

OWN_NETS: dict[str, Callable[[ModelConfig, int], BlockNet]] = {}
"""The class of each registered family."""


def family(name: str, label: str, **more: Any) -> Callable[[Net], Net]:
    """Register a class as the nets of ``model=<name>``.

    ``repro.config.families`` reads the arguments from the source, without importing torch: they must be literals.

    Args:
        name: The family, as in conf/model.
        label: The name of its nets, without the depth.
        more: Arguments of ``repro.config.families.own_family``.
    """

    def register(net: Net) -> Net:
        OWN_NETS[name] = net
        FAMILIES.setdefault(name, own_family(label, **more))
        return net

    return register
