"""CIFAR-10 and CIFAR-100: fetching, checks, arrays."""
