"""Parts of a learning rate's schedule that never act."""

from collections.abc import Sequence

from repro.config.run import RunConfig
from repro.engine.optim import first_warmup_end


def schedules_text(configs: Sequence[RunConfig]) -> str:
    """Name the schedules whose drops or warm-up do not fit into the steps, a note for each; empty without any."""
    return "\n".join(dict.fromkeys(f"note: {text}" for config in configs for text in idle_parts(config)))


def idle_parts(config: RunConfig) -> list[str]:
    """Describe what of a run's schedule never acts; an empty list of milestones is a choice, not a fault."""
    optim, found = config.optim, []
    within = f"optim.steps={optim.steps}"
    if optim.schedule == "milestones" and optim.milestones and optim.milestones[0] >= optim.steps:
        milestones = ",".join(map(str, optim.milestones))
        found.append(f"the learning rate never drops: optim.milestones=[{milestones}] is not below {within}")
    end = first_warmup_end(optim, config.model)
    if end is not None and end >= optim.steps:
        found.append(f"the warm-up never ends: optim.warmup_steps={end} is not below {within}")
    return found
