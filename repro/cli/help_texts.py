"""Texts that `repro --help` shows."""

from __future__ import annotations

DESCRIPTION = """\
Does the ResNet paper hold up? Re-runs the experiments of He, Zhang, Ren, Sun 2015 (Deep Residual Learning for
Image Recognition) and shows the paper's numbers beside the measured ones."""

EXAMPLES = """\
start here:
  repro list                                             what can be run
  repro show exp=cifar_depth_sweep                       which runs, how long
  repro run exp=cifar_residual_vs_plain scale=demo       minutes on a laptop
  repro run exp=cifar_depth_sweep                        Table 6 at the paper's budget
  repro table 6                                          paper and measured, side by side

Settings are key=value words as in Hydra: model.depth=20,56 seed=0,1,2 sweeps over both.
Interrupted? The same command resumes where it stopped."""

BENCH = "Measure how fast nets train here, alone and beside the textbook loop of public CIFAR scripts."
BENCH_EXAMPLES = """\
repro bench --quick
  repro bench model.depth=20,110 optim.precision=tf32,bf16 execution.step=graph
  repro bench --all --json bench.json
  repro bench data=imagenet paths.data=/data/imagenet

Without a net: ResNet-20, on a GPU also 56 and 110; without execution.step: every way that the device can take a step.
On ImageNet images (data=imagenet, data=tiny_imagenet): the loader, the step and both, and torchvision's net beside it;
without a net ResNet-50, on a CPU ResNet-18.
On the data in paths.data, or on made images; nothing is fetched, and nothing of what is trained is kept. A part that
fails is named at the end (exit code 1) and the others continue."""


PREDICT_EXAMPLES = """\
repro predict cifar10-resnet20-s0 cat.jpg dog.png

The centre of a picture is taken, in the size that the net was tested at."""

SHOW_EXAMPLES = """\
repro show model.depth=56
  repro show cifar10-resnet20-s0-5ed7a8a7"""

COMPARE_EXAMPLES = """\
repro compare cifar10-resnet20-demo-s0-accd58ef
  repro compare RUN RUN

Exit code 0: identical, or within the spread of seeds; 1: outside; 3: too few seeds to say."""

STATUS_EXAMPLES = """\
repro status
  repro status exp=cifar_depth_sweep state=failed,interrupted
  repro status optim.nesterov=True --json"""

FIGURE_EXAMPLES = """\
repro figure 6
  repro figure 6 --scale demo
  repro figure gradient_flow"""

EVALUATE_EXAMPLES = """\
repro evaluate cifar10-resnet20-s0-1a2b3c4d
  repro evaluate RUN RUN --ensemble --views multiscale
  repro evaluate --weights resnet50.pth model=imagenet_resnet model.depth=50 \
    data=imagenet paths.data=/data/imagenet
  repro evaluate --weights model.safetensors model.depth=56 --mean 0.491,0.482,0.447 --std 0.247,0.243,0.262

Weights are read as PyTorch scripts save them, or from safetensors; nothing in the file is run. Before the test one line
says which nets the names belong to and what is done to the pixels.

A finished run is tested as its record says, from its last weights; equal errors are said to be equal. Scores are kept
in the run's folder, so that ensembles and tables need no GPU later."""
