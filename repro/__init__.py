"""Reproduces the tables and figures of He, Zhang, Ren, Sun 2015, *Deep Residual Learning for Image Recognition*."""

from repro.runtime.openmp import bound_spinning

__version__ = "0.1.0"

# Here, because every process that trains imports this package before torch, however it was started.
bound_spinning()
