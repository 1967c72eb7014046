"""R-CNN for localization: a net for single regions of images (appendix C)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG

from repro.models.detection.body import cut
from repro.models.detection.boxes import FIXED
from repro.models.resnet import ImageNetResNet


class RegionNet(nn.Module):
    """A classification net up to its features, and sibling layers with a logistic score and a box of each class.

    Batch norm is fixed, as in the localizer that proposes the regions (D82). Of a region only the outputs of its class
    are read.
    """

    def __init__(self, net: ImageNetResNet | VGG, num_classes: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body, self.top = cut(net)
        self.scores = nn.Linear(self.top.channels, num_classes)
        self.codes = nn.Linear(self.top.channels, num_classes * 4)
        for layer, std in ((self.scores, 0.01), (self.codes, 0.001)):  # Fast R-CNN, section 2.3
            nn.init.normal_(layer.weight, std=std, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits (N,) and codes (N, 4) of ``classes`` (N,) in warped regions (N, 3, S, S)."""
        x = self.top(self.body(regions))
        precise = self.scores.weight.dtype  # autocast computes in a lower one
        logits = self.scores(x).gather(1, classes[:, None])[:, 0]
        codes = self.codes(x).view(len(x), -1, 4).gather(1, classes[:, None, None].expand(-1, 1, 4))[:, 0]
        return logits.to(precise), codes.to(precise)

    def losses(
        self, regions: Tensor, classes: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor
    ) -> dict[str, Tensor]:
        """Compute the losses of scores and of boxes, sums over regions; only outputs of their own classes learn (D83).

        Args:
            boxes: The proposals (N, 4) that the regions are of.
            labels: 1 (N,) for a proposal of the class, 0 for one that is not.
            wanted: The object's box (N, 4) for each proposal; read where the label is 1.
        """
        logits, codes = self(regions, classes)
        positive = labels > 0
        targets = FIXED.encode(wanted[positive], boxes[positive]).to(codes)
        return {
            "scores": F.binary_cross_entropy_with_logits(logits, labels.to(logits), reduction="sum"),
            "boxes": F.smooth_l1_loss(codes[positive], targets, reduction="sum"),
        }

    def updated(self, regions: Tensor, classes: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new logits (N,) and boxes (N, 4) of proposals ``boxes`` (N, 4), not cut to the image."""
        logits, codes = self(regions, classes)
        return logits, FIXED.decode(codes, boxes.to(codes))
