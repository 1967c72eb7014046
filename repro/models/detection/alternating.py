"""Four-step alternating training ([32], section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

Step = Literal[1, 2, 3, 4]
PARTS: dict[Step, tuple[str, ...]] = {1: ("body", "rpn"), 2: ("body", "head"), 3: ("rpn",), 4: ("head",)}
"""Parts of a detector that each step trains: from step 3 on the body, shared by both nets, stays as step 2 left it."""

ORIGINS: dict[Step, dict[str, Literal["new"] | Step]] = {
    1: {"body": "new", "rpn": "new", "head": "new"},
    2: {"body": "new", "rpn": "new", "head": "new"},
    3: {"body": 2, "rpn": "new", "head": 2},
    4: {"body": 2, "rpn": 3, "head": 2},
}
"""Where each step takes the parts of its detector from: the pre-trained and newly drawn net, or the end of a step.

The proposals of step 2 come from the whole net of step 1, whose body differs from its own (D58).
"""


def trained_names(step: Step | None, names: Iterable[str], fixed: Iterable[str] = ()) -> list[str]:
    """Return those of a detector's parameters that a step trains; None is joint training.

    ``fixed`` are parameters of the body that are never trained, as ``Body.fixed`` names them.
    """
    parts = ("body", "rpn", "head") if step is None else PARTS[step]
    never = {f"body.{name}" for name in fixed}
    return [name for name in names if name.split(".")[0] in parts and name not in never]


def initial_state(
    step: Step, new: Mapping[str, Tensor], ends: Mapping[Step, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Return the state dict with which a step starts.

    Args:
        step: The step.
        new: State dict of the pre-trained detector with newly drawn layers.
        ends: State dicts at the ends of earlier steps.
    """
    state = {}
    for name, value in new.items():
        origin = ORIGINS[step][name.split(".")[0]]
        state[name] = value if origin == "new" else ends[origin][name]
    return state
