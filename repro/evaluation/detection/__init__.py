"""Scores of detections, and the files of the evaluation servers."""
