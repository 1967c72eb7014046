"""TensorBoard events of a run: charts of all runs, first images, layer responses."""

from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from repro.data.augment import PixelStats
from repro.engine.tensorboard import CHARTS, Events, grid
from repro.evaluation.counts import Counts

EVERYTHING = {"scalars": 0, "histograms": 0, "images": 0, "tensors": 0}


def read(folder):
    events = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    events.Reload()
    return events


@pytest.fixture
def events(tmp_path):
    return Events(tmp_path, 0, "test")


def test_every_run_brings_the_same_charts_of_all_runs(events, tmp_path):
    events.evaluated(10, Counts(30, 100, 200.0), Counts(40, 100, 210.0))
    events.close()
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("error/train")] == [(10, 30.0)]
    assert [(e.step, e.value) for e in found.Scalars("error/test")] == [(10, 40.0)]
    layout = layout_pb2.Layout.FromString(found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == list(CHARTS)
    assert layout.category[0].chart[0].multiline.tag == ["^error/train$"]


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path):
    for begin, steps in ((0, (10, 20, 30)), (10, (20,))):
        events = Events(tmp_path, begin, "test")
        for step in steps:
            events.evaluated(step, Counts(step + begin, 100), Counts(1, 100))
        events.close()
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("error/train")] == [(10, 10.0), (20, 30.0)]


def test_the_first_images_come_with_their_mean_added_back(events, tmp_path):
    stats = PixelStats(torch.full((3, 1, 1), 0.25), torch.full((3, 1, 1), 0.5))
    bytes_in = torch.randint(0, 256, (16, 3, 8, 8))
    events.images((bytes_in / 255 - stats.mean) / stats.std, stats)
    events.close()
    (image,) = read(tmp_path).Images("training_images/augmented")
    assert (image.step, image.width, image.height) == (0, 4 * 64, 4 * 64)
    square = grid((bytes_in / 255 - stats.mean) / stats.std, stats)
    assert torch.equal(square[:, :64:8, 64:128:8], bytes_in[1].byte())
    assert torch.equal(square[:, 64:128:8, :64:8], bytes_in[4].byte())


def test_photographs_make_a_grid_that_fits_a_screen():
    stats = PixelStats(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    assert grid(torch.zeros(256, 3, 224, 224), stats).shape == (3, 896, 896)
    assert grid(torch.zeros(1, 3, 32, 32), stats).shape == (3, 64, 64)


def test_responses_are_a_histogram_a_layer_in_order(events, tmp_path):
    take = events.responses(step=7)
    values = torch.linspace(-1, 3, 2 * 4 * 5 * 5).view(2, 4, 5, 5)
    for layer in ("conv1", "stages.0.0.conv1"):
        take(layer, values)
    events.close()
    found = read(tmp_path)
    assert found.Tags()["histograms"] == ["statistics/responses 001 conv1", "statistics/responses 002 stages.0.0.conv1"]
    (histogram,) = found.Histograms("statistics/responses 001 conv1")
    assert histogram.step == 7
    counted = histogram.histogram_value
    assert (counted.min, counted.max, counted.num) == (-1, 3, 200)
    assert sum(counted.bucket) == 200
    assert counted.sum == pytest.approx(200.0, rel=1e-5)


def test_a_large_layer_is_sampled(events, tmp_path):
    events.responses(0)("conv", torch.zeros(3 * 2**17))
    events.close()
    (histogram,) = read(tmp_path).Histograms("statistics/responses 001 conv")
    assert histogram.histogram_value.num == 2**17
