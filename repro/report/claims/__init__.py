"""Verdicts on the paper's claims, from records."""
