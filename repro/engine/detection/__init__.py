"""Training and testing of detectors."""
