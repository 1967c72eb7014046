"""The runs of a plan, on one machine or several."""
