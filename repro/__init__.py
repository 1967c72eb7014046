"""Reproduces the tables and figures of He, Zhang, Ren, Sun 2015, *Deep Residual Learning for Image Recognition*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repro.runtime.openmp import bound_spinning

if TYPE_CHECKING:
    from repro.api import InputError, curves, figure, load, runs, table

__all__ = ["InputError", "curves", "figure", "load", "runs", "table"]

__version__ = "0.1.0"

# Here, because every process that trains imports this package before torch, however it was started.
bound_spinning()


def __getattr__(name: str) -> Any:
    """Import the functions for programs only where they are used: the command line does without."""
    if name in __all__:
        from repro import api

        return getattr(api, name)
    raise AttributeError(f"module 'repro' has no attribute {name!r}")
