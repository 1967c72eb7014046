"""Exact evaluation of nets: errors, views, responses."""
