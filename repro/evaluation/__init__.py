"""Evaluation of trained nets."""
