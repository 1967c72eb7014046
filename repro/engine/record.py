"""The record of a run, from its final net."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.backends.cudnn import version as cudnn_version

from repro.config.parse import build, plain
from repro.config.run import RunConfig
from repro.data.batches import Images, train_images
from repro.engine.loop import CurveRow
from repro.engine.prepared import Prepared
from repro.evaluation.counts import Counts
from repro.evaluation.layer_statistics import layer_responses
from repro.evaluation.single_crop import TOP5_CLASSES, Evaluator
from repro.models.count import measure
from repro.results.record import Construction, Evaluation, Flow, LayerResponse, Record, Result, RunningError, ViewResult
from repro.results.stored import Provenance
from repro.runtime import distributed
from repro.runtime.device import arithmetic, num_threads
from repro.runtime.provenance import command, environment, now


def evaluator_of(net: Prepared, images: Images) -> Evaluator:
    """Build the evaluation of a run's net on ``images``."""
    batch_size, precision = net.config.execution.eval_batch_size, net.config.optim.precision
    top5 = net.dataset.num_classes >= TOP5_CLASSES
    return Evaluator(net.model, images, net.feed.stats, batch_size, precision, net.mode, top5)


def make_record(
    net: Prepared,
    final: Counts,
    begun: Mapping[str, Any] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Measure the final net and describe how it was trained; every rank measures its part.

    Args:
        final: The evaluation of the final net.
        begun: The comparison of a constructed net with its shallow net (``Construction``).
        stop: Asked during the tests on several views, which take longest, whether to end.

    Raises:
        Stopped: Any rank was asked to stop; a resumed run goes on with the views that are left.
    """
    config, state = net.config, net.state
    size = measure(config.model, config.data.image_size, net.dataset.num_classes)
    batch_size, precision = config.execution.eval_batch_size, config.optim.precision
    views: Sequence[Mapping[str, Any]] = []
    if config.eval.views:
        from repro.evaluation.multi_crop import test_views  # loads torchvision's operators, seconds

        views = test_views(net.model, net.dataset, config, net.device, stop)
    trained = None
    if config.eval.train_error:
        trained = evaluator_of(net, train_images(net.dataset, config, net.device))()
    responses = layer_responses(net.model, net.images, net.feed.stats, batch_size, precision)
    construction = None if begun is None else build(Construction, begun)
    return Record(
        **of_run(config, net.mode),
        result=make_result(net, final, trained, views),
        steps=state.step,
        below_80_step=state.below_80_step or None,
        params=size.params,
        macs=size.macs,
        wall_seconds=round(state.train_seconds + state.eval_seconds, 3),
        images_per_second=round(state.step * config.optim.batch_size / state.train_seconds, 1),
        responses=tuple(LayerResponse(**layer) for layer in responses),  # type: ignore[arg-type]
        flow=tuple(build(Flow, flow) for flow in state.flow),
        construction=construction,
        provenance=make_provenance(net, construction),
    )


def of_run(config: RunConfig, mode: str) -> dict[str, Any]:
    """Return the fields of a record that follow from the run's settings and the ``mode`` of its step."""
    told = {"threads": num_threads(config.execution), "step": mode, "world_size": distributed.size()}
    return {
        "run_id": config.run_id,
        "key": config.key,
        "label": config.label,
        "exp": config.exp,
        "scale": config.scale,
        "seed": config.seed,
        "fingerprint": config.fingerprint,
        "numerics_version": config.science.numerics_version,
        "science": config.science,
        "execution": plain(config.execution) | told,
        "folder": config.work_dir,
    }


def make_result(net: Prepared, final: Counts, trained: Counts | None, views: Sequence[Mapping[str, Any]]) -> Result:
    """Collect all errors; the best epoch and the running training error come from the curve."""
    tested, train, curve = net.dataset.eval.name, net.dataset.train.name, net.state.curve
    last, before = curve[-1], curve[-2].step if len(curve) > 1 else 0
    best = min(curve, key=lambda row: (row.eval.errors, row.step))
    chosen = chosen_row(curve)
    return Result(
        final=Evaluation(**counted(final, tested), step=last.step),
        best=Evaluation(**counted(best.eval, tested), step=best.step),
        train=None if trained is None else Evaluation(**counted(trained, train), step=last.step),
        train_running=RunningError(**counted(last.train, train), first_step=before + 1, last_step=last.step),
        views=tuple(ViewResult(**view) for view in views),
        chosen=None if chosen is None else Evaluation(**counted(chosen.eval, tested), step=chosen.step),
        validation=None if chosen is None else held_out_errors(net, chosen),
    )


def chosen_row(curve: Sequence[CurveRow]) -> CurveRow | None:
    """Return the evaluation with the lowest error on the images held out, the first of equals (deviation D48)."""
    validated = [(row.held_out.errors, row.step, row) for row in curve if row.held_out is not None]
    return min(validated)[2] if validated else None


def held_out_errors(net: Prepared, row: CurveRow) -> Evaluation:
    assert row.held_out is not None and net.dataset.held_out is not None
    return Evaluation(**counted(row.held_out, net.dataset.held_out.name), step=row.step)


def counted(counts: Counts, split: str) -> dict[str, Any]:
    """Return the errors under the names of a record, with top-5 errors if they were counted."""
    values: dict[str, Any] = {
        "split": split,
        "errors": counts.errors,
        "images": counts.images,
        "top1_error": counts.top1_error,
        "loss": counts.loss if math.isfinite(counts.loss) else None,
    }
    if counts.top5_errors is not None:
        values |= {"top5_errors": counts.top5_errors, "top5_error": counts.top5_error}
    return values


def part(step: int, started: str, made_on: Mapping[str, str]) -> dict[str, Any]:
    """Describe one of the processes that train a run, which starts at ``step``."""
    code = environment()
    return {"from_step": step, "started": started, "commit": code["commit"], "dirty": code["dirty"], **made_on}


def any_dirty(trees: Sequence[bool | None]) -> bool | None:
    """Return whether any tree had uncommitted changes; None if that is unknown."""
    return True if True in trees else None if None in trees else False


def make_provenance(net: Prepared, construction: Construction | None) -> Provenance:
    """Describe the code, the command and the machine behind the run."""
    origins = [] if construction is None else [construction.from_dirty]
    precision = arithmetic(net.device, net.config.optim.precision)
    return provenance_of(
        net.state.parts, net.device, precision, net.dataset.digests, skipped=net.dataset.skipped, trees=origins
    )


def provenance_of(
    parts: Sequence[Mapping[str, Any]],
    device: torch.device,
    precision: str,
    digests: Mapping[str, str],
    *,
    skipped: Sequence[str] = (),
    trees: Sequence[bool | None] = (),
) -> Provenance:
    """Describe the code, the command and the machine behind a run with these ``parts``.

    Args:
        trees: Whether the trees of other code behind the run had uncommitted changes.
    """
    cuda = device.type == "cuda"
    # The code is clean only if it was in all parts, and checkpoints of older code do not describe their first steps.
    trees = [*([None] if parts[0]["from_step"] else []), *(part["dirty"] for part in parts), *trees]
    return Provenance(
        **environment()
        | {
            "packages": tuple(environment()["packages"]),
            "dirty": any_dirty(trees),
            "command": command(),
            "device": ", then ".join(dict.fromkeys(part["device"] for part in parts)),
            "precision": precision,
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda if cuda else None,
            "cudnn": cudnn_version() if cuda else None,
            "data_digests": digests,
            "resumed_at": parts[-1]["from_step"] or None,
            "started": parts[0]["started"],
            "finished": now(),
            "parts": tuple(parts),
            "data_skipped": tuple(skipped),
        }
    )
