"""CIFAR-10: fetched, checked, in memory."""
