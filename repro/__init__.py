"""Reproduces the tables and figures of He, Zhang, Ren, Sun 2015, *Deep Residual Learning for Image Recognition*."""

__version__ = "0.1.0"
