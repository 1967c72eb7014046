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
    text = f"{label_of(record)} seed {record.seed}: {result.split} {METRICS[result.metric]} {value}"
    if result.coco is not None and result.coco.get("AP50") is not None:
        text += f", {result.coco['AP50']:.1f} % at overlap 0.5"
    return with_images(text, record, result.images)


def localizer_line(record: LocalizationRecord) -> str:
    """Return ``RPN ResNet-101 seed 0: val error 13.3 % (1crop), 50,000 images``."""
    result = record.localization
    parts = []
    for view in result.views:
        top5 = "" if view.top5_error is None else f", {view.top5_error:.2f} % in five predicted classes"
        parts.append(f"{view.error:.2f} %{top5} ({view.view})")
    text = f"{label_of(record)} seed {record.seed}: {result.split} localization error {'; '.join(parts)}"
    return with_images(text, record, result.images)


def label_of(record: DetectionRecord | LocalizationRecord) -> str:
    """Return the name of what was tested: ``RPN ResNet-101``, or ``RPN ResNet-101, ensemble of 3,``."""
    settings = record.science.detection or record.science.localization
    members = settings.members if settings else ()
    return f"{record.label}, ensemble of {len(members) + 1}," if members else record.label


def with_images(text: str, record: DetectionRecord | LocalizationRecord, images: int) -> str:
    text += f", {images:,} images"
    if record.scale != "paper":
        text += f" (a proxy, scale={record.scale}: not comparable with the paper)"
    return f"  {text}"
