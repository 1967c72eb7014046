"""Trained nets with their preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from repro.data.augment import PixelStats
from repro.data.imagenet.decode import PillowPhoto, UnreadableError, crop, open_photo, to_rgb
from repro.errors import InputError
from repro.evaluation.predict import predict
from repro.evaluation.stored_net import StoredNet, stored_net
from repro.evaluation.trained import misfit
from repro.models import build_model
from repro.results.find import find_record
from repro.results.record import Record

Picture = str | Path | Image.Image


class Classifier(nn.Module):
    """A net in evaluation mode with its preprocessing.

    Attributes:
        net: The net, for normalized images.
        classes: The names of the outputs.
        record: The record of the run.
    """

    mean: Tensor
    std: Tensor
    whitening: Tensor | None

    def __init__(self, record: Record, stored: StoredNet) -> None:
        super().__init__()
        self.record, self.classes = record, stored.classes
        self.net = build_model(record.science.model, len(stored.classes))
        if reason := misfit(self.net.state_dict(), stored.weights):
            raise InputError(f"the weights of {record.run_id} do not fit a {record.label}: {reason}")
        self.net.load_state_dict(dict(stored.weights), strict=False)  # counters of batches may be missing
        self.register_buffer("mean", stored.stats.mean)
        self.register_buffer("std", stored.stats.std)
        self.register_buffer("whitening", stored.stats.whitening)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (N, classes) of uint8 images (N, 3, S, S)."""
        stats = PixelStats(self.mean, self.std, self.whitening)
        return predict(self.net, pixels, stats, self.record.science.optim.precision)

    def pixels(self, picture: Picture) -> Tensor:
        """Return the centre of a picture in the size of the net's test: uint8 (3, S, S).

        Raises:
            InputError: The picture cannot be read.
        """
        data = self.record.science.data
        try:
            photo = PillowPhoto(to_rgb(picture)) if isinstance(picture, Image.Image) else open_photo(picture, "pillow")
        except UnreadableError as error:
            raise InputError(f"the picture {picture} cannot be read: {error}") from None
        return crop(photo, data.eval_resize or data.image_size, data.image_size)

    @torch.inference_mode()
    def classify(self, *pictures: Picture, top: int = 3) -> list[list[tuple[str, float]]]:
        """Return the most likely classes of each picture with their softmax scores, best first."""
        batch = torch.stack([self.pixels(picture) for picture in pictures]).to(self.mean.device)
        scores = self(batch).float().softmax(1).topk(min(top, len(self.classes)))
        pairs = zip(scores.indices.tolist(), scores.values.tolist(), strict=True)
        return [[(self.classes[i], value) for i, value in zip(*row, strict=True)] for row in pairs]


def load_classifier(name: str, paths: Mapping[str, Path], published: Path) -> Classifier:
    """Load the final net of a run from the work folder or the ``published`` results.

    Args:
        name: A run id or its beginning (``find_record``).

    Raises:
        InputError: There is no such run, or its weights or pixel statistics do not exist.
        RunError: The checkpoint is damaged.
    """
    record = find_record(name, [paths["work"], published / "runs"])
    return Classifier(record, stored_net(record, paths["work"], published, paths["data"]))
