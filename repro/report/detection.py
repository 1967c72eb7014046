"""Finished detectors and localizers as lines."""

from __future__ import annotations

from repro.report.tables.frame import NOT_RUN
from repro.results.detection_record import DetectionRecord
from repro.results.localization_record import LocalizationRecord

METRICS = {"voc07": "mAP over 11 points", "voc12": "mAP", "coco": "AP over overlaps 0.5 to 0.95", "ilsvrc": "mAP"}


def line(record: DetectionRecord) -> str:
    """Return ``Faster R-CNN ResNet-101 seed 0: test mAP over 11 points 76.4 %, 4,952 images``."""
    result = record.detection
    value = NOT_RUN if result.map is None else f"{result.map:.1f} %"
    members = record.science.detection.members if record.science.detection else ()
    label = f"{record.label}, ensemble of {len(members) + 1}," if members else record.label
    text = f"{label} seed {record.seed}: {result.split} {METRICS[result.metric]} {value}"
    if result.coco is not None and result.coco.get("AP50") is not None:
        text += f", {result.coco['AP50']:.1f} % at overlap 0.5"
    text += f", {result.images:,} images"
    if record.scale != "paper":
        text += f" (a proxy, scale={record.scale}: not comparable with the paper)"
    return f"  {text}"


def localizer_line(record: LocalizationRecord) -> str:
    """Return ``RPN ResNet-101 seed 0: val error 13.3 % (1crop), 50,000 images``."""
    result = record.localization
    parts = []
    for view in result.views:
        top5 = "" if view.top5_error is None else f", {view.top5_error:.2f} % in five predicted classes"
        parts.append(f"{view.error:.2f} %{top5} ({view.view})")
    text = f"{record.label} seed {record.seed}: {result.split} localization error {'; '.join(parts)}"
    text += f", {result.images:,} images"
    if record.scale != "paper":
        text += f" (a proxy, scale={record.scale}: not comparable with the paper)"
    return f"  {text}"
