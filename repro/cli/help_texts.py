"""Help texts of the command line."""

from __future__ import annotations

DESCRIPTION = """\
Does the ResNet paper hold up? Repeat the experiments of He, Zhang, Ren, Sun 2015 (Deep Residual Learning for
Image Recognition) and show the results beside the paper's."""

EXAMPLES = """\
start here:
  repro list                                             list experiments, nets and data sets
  repro show exp=cifar_depth_sweep                       show runs, time and memory
  repro run exp=cifar_residual_vs_plain scale=demo       train in minutes on a laptop
  repro run exp=cifar_depth_sweep                        train Table 6 at the paper's budget
  repro table 6                                          print the paper's values beside the measured ones

Settings are key=value words as in Hydra: model.depth=20,56 seed=0,1,2 sweeps over both.
To resume an interrupted command, give it again."""

BENCH = "Measure the training speed of this machine, beside the textbook loop of public CIFAR scripts."
BENCH_EXAMPLES = """\
repro bench --quick
  repro bench model.depth=20,110 optim.precision=tf32,bf16 execution.step=graph
  repro bench --all --json bench.json
  repro bench data=imagenet paths.data=/data/imagenet

The default net is ResNet-20, on a GPU also ResNet-56 and 110; the default steps are all that the device supports.
With data=imagenet or data=tiny_imagenet it measures the loader, the step, both together, and torchvision's net; the
default net is ResNet-50, on a CPU ResNet-18.
It uses the images in paths.data, or synthetic ones, downloads nothing and keeps no trained net. If a part fails, the
others continue; failed parts are listed at the end (exit code 1)."""

PREDICT_EXAMPLES = """\
repro predict cifar10-resnet20-s0 cat.jpg dog.png

Pictures are cropped to their centre, at the size of the images on which the net was tested."""

DETECT_EXAMPLES = """\
repro run exp=voc_detection data=shapes scale=demo        train a detector of drawn shapes in minutes
  repro detect shapes-fasterrcnn-resnet18-b-demo-s0 picture.jpg --threshold 0.3
  repro detect RUN *.jpg --out found --threshold 0.7

Each picture is scaled as in the test of the run and written as PNG with the boxes of all objects found, their classes
and scores; the words below list them in pixels of the picture, from its upper left corner. Pictures below 320 pixels
are enlarged. A score is the detector's probability of the class, so a higher threshold leaves fewer and surer boxes;
a detector that was trained for a few updates gives low scores everywhere. If there is no box, the best one below the
threshold is named. Pictures of a camera are turned upright first. docs/detection.md explains how to train one."""

SHOW_EXAMPLES = """\
repro show model.depth=56
  repro show cifar10-resnet20-s0-5ed7a8a7"""

COMPARE_EXAMPLES = """\
repro compare cifar10-plain20-demo-s0 cifar10-resnet20-demo-s0
  repro compare RUN

One run is compared with the published seeds of its settings, of two runs the first with the second and its seeds.
Exit code 0: identical, or within the spread of seeds; 1: outside; 3: fewer than three other seeds, too few to judge."""

STATUS_EXAMPLES = """\
repro status
  repro status exp=cifar_depth_sweep state=failed,interrupted
  repro status optim.nesterov=true --json"""

CONVERT_EXAMPLES = """\
repro convert cifar10-resnet20-s0 --to plain
  repro convert cifar10-resnet20-s0-5ed7a8a7-plain.safetensors --to residual
  repro convert cifar10-plain20-tenth-s0 --to residual --out plain20-residual.safetensors

The plain net has no additions: only convolutions with biases, ReLUs, pooling and the fully connected layer. Batch norms
are folded into convolutions. A block of one layer adds the identity to its kernel; longer blocks carry their input in
extra channels beside the features. The way back needs nothing but the file. A net that was trained as a plain net
becomes residual with the kernel minus the identity, in every layer that keeps its shape.
Both nets are compared on up to 10,000 test images in float32 and a tenth of them in float64 (large nets on fewer), or
on random images if those are missing; the output shows what the conversion costs (docs/conversion.md). Without --out
the file goes to the folder converted in the work folder, or beside the file that is converted."""

FLOORS_EXAMPLE = "repro floors data=tiny_imagenet_boxes paths.data=tiny-imagenet-200"

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

Weights may be a file that a PyTorch script saved, or safetensors; no code in the file is executed. Before the test one
line names the net that was recognized and the normalization of its pixels.

A finished run is tested with its final weights and the settings of its record; the output says if the errors are equal.
Scores are kept in the run's folder, so that ensembles and tables later need no GPU."""

LESION_EXAMPLES = """\
repro lesion cifar10-resnet20-s0
  repro lesion cifar10-plain20-tenth-s0 cifar10-resnet20-tenth-s0 --images 0
  repro figure shallow_ensembles/lesions --scale tenth

A deleted block is replaced by its shortcut; a block of a plain net, two layers, is left out. Only blocks whose input
and output have the same shape can be deleted or change places, so the first block of a later stage stays. There are
three questions, and no training: the error without one block, by its place; without several random ones; and after
swaps of two blocks of a stage (tau is the rank correlation of the order with the trained one). All nets lose the same
blocks.

The errors are kept in the run's folder as lesions.json; `repro publish` copies it beside published records, from where
the figure and the report take it."""

VISUALIZE_EXAMPLES = """\
repro visualize cifar10-plain20-tenth-s0 cifar10-resnet20-tenth-s0
  repro visualize cifar10-resnet20-s0 --stage 3 --channels 5,17
  repro figure visualizing_residual/channels --scale tenth

For each channel one picture, as PNG and SVG in the work folder: a row for every block of the stage has the test images
that activate this channel of its output most, with a frame around the patch that does, and below them what in the patch
does (guided backpropagation). If shortcuts make the layers of a stage refine the same features, the rows look alike.
The table says how alike: the share of the top images that the next block has too, and the rank correlation of the
responses to all images. With the usual --top and --images it is kept in the run's folder as channels.json; `repro
publish` copies it beside published records, from where the figure and the report take it."""
