"""Trained nets as chains of convolutions, with and without additions."""
