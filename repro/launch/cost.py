"""Estimated time and memory of a run."""

import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from repro.config.families import FAMILIES
from repro.config.run import DetectionConfig, LocalizationConfig, ModelConfig, RunConfig
from repro.errors import InputError
from repro.models.blocks import BasicBlock
from repro.models.count import Size, activation_bytes, measure
from repro.models.forward import forward
from repro.results.find import find_record
from repro.runtime.device import memory_format, num_threads, set_up, wait
from repro.runtime.log import notice

REFERENCE_SPEED = 1e13
"""Multiply-adds per second of an imaginary device, to compare plans independently of devices."""
BACKWARD = 2  # a backward pass costs two forward passes: the gradients of the inputs and of the weights
WINDOWS = 5
PASSES = 2
SHORT = 5.0  # seconds of training that are not worth a precise measurement


@dataclass(frozen=True)
class Speed:
    """The speed of residual blocks on this device."""

    macs_per_second: float
    block_seconds: float  # to launch one block's forward and backward pass, whatever its size
    runs: tuple[str, ...] = ()  # ids of the finished runs behind it, if any


@dataclass(frozen=True)
class Estimate:
    size: Size
    steps: int
    macs: float  # multiply-adds of the whole run, forward and backward, evaluations included
    seconds: float
    memory: int  # peak bytes on each device during a step, without libraries


def estimate(config: RunConfig, speed: Speed, train_images: int, eval_images: int) -> Estimate:
    """Estimate steps, multiply-adds, time and memory of a run.

    Args:
        train_images: The images of an epoch.
        eval_images: The images of an evaluation.
    """
    size, macs, seconds = work(config, speed, train_images, eval_images)
    return Estimate(size, config.optim.steps, macs, seconds, memory(config, size))


def work(config: RunConfig, speed: Speed, train_images: int, eval_images: int) -> tuple[Size, float, float]:
    """Return size, multiply-adds and seconds of a run as ``estimate`` does, without its memory, which takes longer."""
    if config.detection is not None:
        return detector_work(config, config.detection, speed, train_images, eval_images)
    optim = config.optim
    if config.localization is not None:
        return localizer_work(config, config.localization, speed, train_images, eval_images)
    size = measure(config.model, config.data.image_size, config.data.num_classes)
    evaluations = optim.steps / (config.eval.every_steps or max(train_images / optim.batch_size, 1)) + 1
    trained_on = min(train_images, config.eval.train_images or train_images) * config.eval.train_error
    evaluated = eval_images * evaluations + trained_on
    trained = optim.steps * config.model.computed_share
    macs = size.macs * ((1 + BACKWARD) * trained * optim.batch_size + evaluated)
    launches = trained + evaluated / config.execution.eval_batch_size / (1 + BACKWARD)
    blocks = config.model.depth / 2
    seconds = macs / speed.macs_per_second + launches * blocks * speed.block_seconds
    return size, macs, seconds / config.execution.num_ranks


def detector_work(
    config: RunConfig, detection: DetectionConfig, speed: Speed, train_images: int, eval_images: int
) -> tuple[Size, float, float]:
    """Return the work of a detector's run; a frozen body has no backward pass, and a proposal net no regions."""
    from repro.engine.detection.size import detector_size  # a slow import, seconds

    size, optim = detector_size(config, config.data.num_classes), config.optim
    whole = 1 + BACKWARD
    region = whole * detection.samples * size.region_macs
    if detection.training == "joint":
        macs: float = detection.steps[0] * optim.batch_size * (whole * (size.body_macs + size.rpn_macs) + region)
    else:
        rpn, head = detection.rpn_batch_size, optim.batch_size
        one, two, three, four = detection.steps
        macs = one * rpn * whole * (size.body_macs + size.rpn_macs) + two * head * (whole * size.body_macs + region)
        macs += three * rpn * (size.body_macs + whole * size.rpn_macs) + four * head * (size.body_macs + region)
        macs += 2 * train_images * size.macs(0)
    # Other scales are about as large together as their areas; refinement classifies all regions again. Each net of an
    # ensemble classifies the proposals of all; their sizes are taken as that of the run's own net.
    views = sum((side / config.data.image_size) ** 2 for side in detection.scales) or 1.0
    rounds = (2 if detection.refine else 1) * min(2, max(1, len(detection.scales)))
    nets = 1 + len(detection.members)
    tested = views * size.body_macs + rounds * nets * detection.test_proposals * size.region_macs
    macs += eval_images * nets * tested
    shown = Size(size.params, size.macs(detection.test_proposals))
    return shown, macs, macs / speed.macs_per_second / config.execution.num_ranks


def localizer_work(
    config: RunConfig, own: LocalizationConfig, speed: Speed, train_images: int, eval_images: int
) -> tuple[Size, float, float]:
    """Return the work of a localizer's run; a net for single regions also runs the localizer that proposes them."""
    from repro.engine.localization.size import localizer_size  # a slow import, seconds

    size, crop, nets = localizer_size(config, config.data.num_classes), config.data.image_size, 1 + len(own.members)
    macs: float = (1 + BACKWARD) * size.macs * config.optim.steps * config.optim.batch_size
    if own.method == "rcnn":
        network = localizer_size(replace(config, localization=own.proposer), config.data.num_classes).macs
        usual = [config.data.eval_resize or crop]
        macs += crops_of(usual, crop) * network * train_images
        # Of the given class, and of five predicted ones, which the given one is mostly among. The proposals are made
        # once for all nets of an ensemble.
        regions = own.proposals * size.macs * (5 if own.classes_of else 1)
        tested = crops_of(own.scales or usual, crop) * network + nets * regions
    else:
        tested = nets * (1 + crops_of(own.scales, crop)) * size.macs
    if own.classes_of:
        # Their nets are taken to be like the run's own.
        tested += class_views(config, own) * measure(config.model, crop, config.data.num_classes).macs
    macs += tested * eval_images
    return size, macs, macs / speed.macs_per_second / config.execution.num_ranks


def crops_of(sides: Sequence[int], crop: int) -> float:
    """Return how many crops are as large together as whole images of ``sides``, a third wider than squares."""
    return sum((side / crop) ** 2 * 4 / 3 for side in sides)


def class_views(config: RunConfig, own: LocalizationConfig) -> float:
    """Return how many crops are as large together as all that the runs in ``classes_of`` see of an image."""
    found = 0.0
    for name in own.classes_of:
        try:
            there = find_record(name, [config.paths.work, config.paths.results / "runs"]).science
        except InputError:  # a run that is planned before: on the paper's scales, as those of ImageNet
            found += 2 * crops_of(own.scales, config.data.image_size) or 1
            continue
        sides = there.eval.scales if "multiscale" in there.eval.views else ()
        found += (1 + there.eval.flip_scales) * crops_of(sides, there.data.image_size) or 1
    return found


def memory(config: RunConfig, size: Size) -> int:
    """Estimate the bytes that training needs on each device; bfloat16 halves activations, not weights."""
    image_size, batch_size = config.data.image_size, config.optim.batch_size
    if config.detection is not None:
        from repro.engine.detection.size import activation_bytes as detector_activation_bytes  # a slow import, seconds

        kept = detector_activation_bytes(config, config.data.num_classes)
    else:
        kept = activation_bytes(config.model, image_size, batch_size, config.execution.checkpoint_activations)
        kept = kept * (config.execution.micro_batch or batch_size // config.execution.num_ranks) // batch_size
    return (kept // 2 if config.optim.precision == "bf16" else kept) + 3 * 4 * size.params


def calibrate(config: RunConfig) -> Speed:
    """Measure the speed of this device, once in a process; takes about a second, less for a run of seconds."""
    # Not stored for later processes: a speed that was measured beside other programs is wrong without them.
    device = set_up(config.execution, config.optim.precision)
    setting = device, num_threads(config.execution), config.model.name, config.optim.precision
    speed = measure_speed(*setting, windows=1)
    macs = (1 + BACKWARD) * measure(config.model, config.data.image_size, config.data.num_classes).macs
    if macs * config.optim.batch_size * config.optim.steps > SHORT * speed.macs_per_second:
        speed = measure_speed(*setting, windows=WINDOWS)
    # A CUDA graph launches a whole step at once: launching single blocks costs nothing (repro.engine.step).
    graph = device.type == "cuda" and config.execution.step != "eager" and not config.model.is_random
    return replace(speed, block_seconds=0.0) if graph else speed


@cache
def measure_speed(device: torch.device, threads: int, family: str, precision: str, windows: int) -> Speed:
    """Time a basic block of each stage at the paper's map sizes, and one on tiny maps."""
    notice("measuring this machine")
    batch_size, stages = FAMILIES[family].timed
    shapes = [(batch_size, channels, map_size) for channels, map_size in stages]
    tiny = (2, 16, 4)
    passes = [block_pass(shape, device, precision) for shape in (*shapes, tiny)]
    *seconds, launch = fastest(passes, windows)
    macs = sum((1 + BACKWARD) * 2 * 9 * channels**2 * map_size**2 * batch_size for channels, map_size in stages)
    return Speed(macs / max(sum(seconds) - len(stages) * launch, sum(seconds) / 10), launch)


def fastest(passes: Sequence[Callable[[], None]], windows: int) -> list[float]:
    """Return the seconds of each pass in the fastest of so many short windows.

    Other programs only ever slow a pass down. The windows of one pass are apart, so that a busy moment is not in all.
    """
    found = [[timeit.timeit(run, number=PASSES, timer=time.perf_counter) for run in passes] for _ in range(windows)]
    return [min(seconds) / PASSES for seconds in zip(*found, strict=True)]


def block_pass(shape: tuple[int, int, int], device: torch.device, precision: str) -> Callable[[], None]:
    """Build and warm up a block's forward and backward pass on maps of ``shape`` (images, channels, side)."""
    num_images, channels, map_size = shape
    config = ModelConfig(
        name="cifar_resnet",
        depth=20,
        shortcut="A",
        shortcut_subsample="stride",
        init="he_fan_in",
        bn_group_size=num_images,
        bn_momentum=0.1,
        bn_eps=1e-5,
    )
    block = BasicBlock(channels, channels, 1, config)
    block.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    x = torch.randn(num_images, channels, map_size, map_size)
    x = x.to(device, memory_format=memory_format(device)).requires_grad_(True)

    def run() -> None:
        forward(block, x, precision).float().sum().backward()
        wait(device)

    for _ in range(2):
        run()
    return run
