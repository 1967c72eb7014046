"""One run of a detector, from its last checkpoint to its record."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from repro.config.run import RunConfig
from repro.data.detection.dataset import DetectionDataset
from repro.data.own_images import check_images
from repro.engine.detection.hooks import RankHooks, write_losses
from repro.engine.detection.prepared import DetectionState, PreparedDetector, Training, prepare_detector, train_only
from repro.engine.detection.size import detector_size
from repro.engine.detection.steps import remove_steps
from repro.engine.detection.testing import run_test, write_detections
from repro.engine.detection.training import filled_from, payload, train_detector
from repro.engine.loop import NotFiniteError
from repro.engine.record import of_run, part, provenance_of
from repro.engine.resume import changed_setting, claim_folder, last_good
from repro.errors import RunError
from repro.evaluation.detection.examples import examples
from repro.results.detection_record import EXAMPLES, DetectionRecord, DetectionResult
from repro.results.stored import RECORD
from repro.runtime import checkpoint, distributed
from repro.runtime.device import arithmetic
from repro.runtime.files import replacing
from repro.runtime.provenance import now, write_json
from repro.runtime.stop import Stopper

log = logging.getLogger(__name__)


def run_detector(config: RunConfig, dataset: DetectionDataset, stopper: Stopper) -> DetectionRecord | None:
    """Train, test and record one detector, from its last checkpoint if there is one.

    Every rank of the run calls this; only the first rank reads and writes the folder of the run.

    Returns:
        The record, or None if the run was stopped and saved a checkpoint.

    Raises:
        InputError: The folder of the run holds another run, or the weights that it starts from do not exist.
        RunError: A loss is not finite, or a file cannot be written.
    """
    started = now()
    distributed.on_first(lambda: claim_folder(config))
    net = prepare_detector(config, dataset)
    stored = load_state(net)
    net.state.parts.append(part(net.updates, started, net.made_on))
    with contextlib.closing(RankHooks(net, stopper)) as hooks:
        if not train_all(net, hooks, stored):
            return None
        tested = run_test(net, hooks)
        if tested is None:
            return None
        result, found = tested
        hooks.tested(net, result)
    record = make_record(net, result)

    def leave() -> None:
        write_losses(net)
        write_detections(net, found)
        with replacing(config.work_dir / EXAMPLES, RunError) as file:
            file.write(examples(net.dataset.eval, found))
        write_json(config.work_dir / RECORD, record.to_json())
        remove_steps(config.work_dir)

    distributed.on_first(leave)
    return record


def train_all(net: PreparedDetector, hooks: RankHooks, stored: dict[str, Any] | None) -> bool:
    """Train to the end, from a checkpoint if there is one, and save; return False if the run was stopped before."""
    restore = filled_from(stored or {}) if net.resumed is not None else None
    if net.state.part == len(net.steps):  # only the test is missing
        assert restore is not None
        train_only(net)
        restore(net)
        return True
    try:
        if not train_detector(net, hooks, restore):
            return False
    except NotFiniteError as error:
        raise RunError(f"{error}; {last_good(net.config)}") from error
    last = payload(net)
    distributed.on_first(lambda: checkpoint.save(net.config.work_dir / checkpoint.FINAL, last))
    return True


def load_state(net: Training) -> dict[str, Any] | None:
    """Read the newest readable checkpoint on the first rank, and its state on all; return it there.

    Raises:
        InputError: The checkpoint was trained on other images.
    """

    def load() -> dict[str, Any] | None:
        found = checkpoint.load_latest(net.config.work_dir)
        if found is None:
            return None
        path, stored = found
        check_images(net.config.work_dir, net.dataset.digests, stored.get("digests"))
        net.state = DetectionState(**stored["state"])
        net.resumed = net.updates
        log.info(f"  resumes at update {net.updates:,} from {path.name}")
        changed_setting(net.made_on, stored["setting"])
        return stored

    stored = distributed.agreed(lambda: load() if distributed.is_first() else None)
    net.state, net.resumed = distributed.shared((net.state, net.resumed))
    return stored


def make_record(net: PreparedDetector, result: DetectionResult) -> DetectionRecord:
    """Describe the final detector and how it was trained."""
    config, state = net.config, net.state
    assert config.detection is not None
    size = detector_size(config, net.dataset.num_classes)
    precision = arithmetic(net.device, config.optim.precision)
    return DetectionRecord(
        **of_run(config, "eager"),
        detection=result,
        steps=net.updates,
        params=size.params,
        macs=size.macs(config.detection.test_proposals),
        wall_seconds=round(state.train_seconds, 3),
        images_per_second=round(state.images / max(state.train_seconds, 1e-9), 1),
        provenance=provenance_of(state.parts, net.device, precision, net.digests),
    )
