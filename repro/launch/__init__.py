"""Launching of runs, on one machine or several."""
