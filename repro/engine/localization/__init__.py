"""Training and testing of localizers."""
