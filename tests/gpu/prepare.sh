#!/usr/bin/env bash
# Makes .gpu1 and .gpu2, what a GPU machine without network needs beside the tree, in the root of a clean checkout.
#   bash tests/gpu/prepare.sh [FOLDER]      the folder with the four arrays of CIFAR-10 (default: data/cifar10)
# PYTHON is a Python with the project's packages and pip (default: .venv/bin/python).
set -euo pipefail
cd "$(dirname "$0")/../.."
data=${1:-data/cifar10}
python=${PYTHON:-.venv/bin/python}

dirty=$(git status --porcelain -- repro conf experiments pyproject.toml)
if [ -n "$dirty" ]; then
  echo "commit first: records of a tree with uncommitted changes do not count" >&2
  exit 1
fi
rm -rf .gpu1 .gpu2
mkdir .gpu1 .gpu2

# Only pure Python ("any" platform), so that one wheel serves every version; what is compiled has to be on the machine.
"$python" -m pip wheel -q --no-deps -w .gpu1/wheels antlr4-python3-runtime==4.9.3 # has no wheel of its own
"$python" -m pip download -q --no-deps --only-binary=:all: --platform any -d .gpu1/wheels -c constraints.txt \
  hydra-core omegaconf submitit tabulate tqdm 'pytest>=9,<10' iniconfig pluggy 'hypothesis>=6.130' sortedcontainers

PYTHONPATH=$PWD "$python" tests/gpu/cifar_parts.py pack "$data" .gpu1/cifar .gpu2/cifar
echo "export REPRO_COMMIT=$(git rev-parse HEAD) REPRO_DIRTY=0" > .gpu1/commit.sh
cp -r .gpu1/wheels .gpu1/commit.sh .gpu2/

# In an archive each file takes a header and whole blocks, which counts where a transfer has a limit.
tree=$(git ls-files -z | tar -c --null -T - | wc -c)
for folder in .gpu1 .gpu2; do
  bytes=$(tar -c "$folder" | wc -c)
  awk -v folder="$folder" -v own="$bytes" -v tree="$tree" \
    'BEGIN { printf "%s: %.1f MiB, with the tree %.1f MiB\n", folder, own / 1048576, (own + tree) / 1048576 }'
done
