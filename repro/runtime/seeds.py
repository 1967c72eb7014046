"""Seeds of random streams, derived from names."""

from __future__ import annotations

import hashlib


def seed_of(*names: object) -> int:
    """Return a seed that depends only on ``names``, as in ``seed_of(seed, "survival", step)``."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % 2**63
