"""Records of finished runs: read, selected, published."""
