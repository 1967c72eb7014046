"""TensorBoard events of a run. They lie in the run's own folder, so a chart shows a sweep's depths by run name."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from repro.metrics import Counts


class Events:
    """Error, loss, learning rate and speed over steps; ``step`` is what a resumed run continues from, ``split`` what
    it is evaluated on."""

    def __init__(self, folder: Path, step: int, split: str) -> None:
        self.split = split
        # What a killed run wrote after its last checkpoint is purged: it is written again.
        self.writer = SummaryWriter(str(folder), purge_step=step + 1, max_queue=1000)
        tags = ["error/train", f"error/{split}"]
        self.writer.add_custom_scalars({"error %": {f"training and {split}": ["Multiline", tags]}})

    def logged(self, step: int, seen: Counts, lr: float, images_per_second: float) -> None:
        self.writer.add_scalar("loss/train", seen.loss, step)
        self.writer.add_scalar("schedule/lr", lr, step)
        if images_per_second:
            self.writer.add_scalar("speed/images_per_second", images_per_second, step)

    def evaluated(self, step: int, train: Counts, evaluated: Counts) -> None:
        """``train`` is the running training error since the evaluation before, as the paper's dashed curves."""
        self.writer.add_scalar("error/train", train.top1_error, step)
        self.writer.add_scalar(f"error/{self.split}", evaluated.top1_error, step)
        self.writer.add_scalar(f"loss/{self.split}", evaluated.loss, step)

    def close(self) -> None:
        self.writer.close()
