#!/usr/bin/env bash
# What a GPU machine without network does in one call:  gpu.sh first|second|speeds SECONDS
# Every step has a limit and a line of its own in the log; one that fails takes nothing with it, and the exit code is 1.
# README.md tells the rest.
set -uo pipefail
stage=$1 total=$2 begun=$SECONDS failed=
case $stage in
  first) load=.gpu1 ;;
  second | speeds) load=.gpu2 ;;
  *) echo "first, second or speeds, not $stage" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/../.."
here=tests/gpu load=$PWD/$load
: "${OUT:?is the folder that comes back}" "${KEEP:=/tmp/keep}" "${SITE:=/tmp/site}" "${PYTHON:=python3}"
: "${REPRO_WORK:=/tmp/w}" "${REPRO_DATA:=/tmp/d}" "${REPRO_RESULTS:=/tmp/r}"
trials=$REPRO_WORK-trial # what is trained to be compared only
# In a folder whose name is too long for a socket, runs that share a GPU do so with streams instead of MPS.
no_mps=without-mps-without-mps-without-mps-without-mps-without-mps-without-mps-without-mps
[ "${GPU_MPS:-1}" = 1 ] || REPRO_WORK=$REPRO_WORK/$no_mps
export PYTHON REPRO_WORK REPRO_DATA REPRO_RESULTS
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$PWD:$SITE"
export TORCHINDUCTOR_CACHE_DIR=$KEEP/inductor TRITON_CACHE_DIR=$KEEP/triton
. "$load/commit.sh"
mkdir -p "$OUT" "$KEEP" "$REPRO_WORK" "$REPRO_RESULTS"
exec > >(tee "$OUT/log-$stage.txt") 2>&1

left() { echo $(( total - (SECONDS - begun) )); }

step() { # step NAME LIMIT COMMAND…: within its limit and what is left
  local name=$1 limit=$2 start=$SECONDS rest code
  shift 2
  rest=$(left)
  [ "$rest" -lt "$limit" ] && limit=$rest
  if [ "$limit" -lt 5 ]; then
    echo "=== $name: left out, $rest s left"
    return 0
  fi
  echo "=== $name (at $(( SECONDS - begun )) s, at most $limit s)"
  timeout -k 12 -s INT "$limit" "$@" </dev/null
  code=$?
  echo "--- $name: exit code $code, $(( SECONDS - start )) s"
  case $code in 0 | 75) ;; *) failed="$failed $name" ;; esac # 75: stopped in time, to be resumed
  return $code
}

minutes() { # minutes SECONDS RESERVE: so many seconds, or those left, without the reserve
  local seconds
  seconds=$(left)
  [ "$1" -lt "$seconds" ] && seconds=$1
  awk "BEGIN { m = ($seconds - $2) / 60; print (m > 0.1 ? m : 0.1) }"
}

repro() { "$PYTHON" -m repro "$@"; }

same() { # same FOLDER NAME: whether seed 0 has the curve of the first trial
  cmp "$trials-graph"/*-s0-*/curve.csv "$1"/*-s0-*/curve.csv && echo "SAME-CURVE-$2"
}

export -f repro same
export trials

if [ ! -d "$SITE/hydra" ]; then
  step wheels 60 "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$SITE" "$load"/wheels/*.whl
fi
echo "left: $(left) s; $(nproc) processors; commit $REPRO_COMMIT"

first() {
  local parts=${GPU_BENCH:---all} mps # what the targets in docs/performance.md ask, in order of worth
  local steps=${GPU_SHORT:-400}
  # Without a GPU, four runs at once share the processor's cores: fewer steps fit the same limits.
  [ -z "${GPU_REHEARSAL:-}" ] || steps=${GPU_SHORT:-100}
  local words="data=synthetic model.depth=20 optim.milestones=[] optim.warmup=none eval.train_error=false"
  words="$words optim.steps=$steps eval.every_steps=$steps execution.progress=none"
  if [ -n "${GPU_REHEARSAL:-}" ]; then
    parts="model.depth=20 execution.step=eager optim.precision=tf32,bf16 execution.deterministic=true,false"
    words="$words scale=smoke"
  fi
  local four="$words seed=0,1,2,3 execution.runs_per_gpu=4"

  rm -rf "$KEEP/part1"
  cp -r "$load/cifar" "$KEEP/part1"
  step machine 75 "$PYTHON" -c 'import sys, torch; print(sys.version, torch.__version__, torch.cuda.is_available())
from PIL import features; print("WebP:", features.check("webp"))'
  command -v nvidia-smi && nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,compute_mode --format=csv
  mps=$(command -v nvidia-cuda-mps-control) || echo "no MPS control program"

  # Does it run at all, what are the kernels, and do a graph and eager steps end with the same bits?
  step profile 75 bash -c "repro run $words execution.profile=true paths.work=$trials-graph && \
    cut -d, -f1,4-7 $trials-graph/*/curve.csv"
  cp "$trials-graph"/*/trace.json.gz "$OUT/"
  step eager 45 bash -c "repro run $words execution.step=eager paths.work=$trials-eager && same $trials-eager EAGER"
  step tests 90 "$PYTHON" -m pytest -q -p no:cacheprovider -m "gpu and not slow" \
    tests/engine/test_graphs.py tests/engine/test_step.py tests/engine/test_run.py
  # Several runs at once give each its own bits, with streams and under MPS.
  step streams 60 bash -c "repro run $four paths.work=$trials-s/$no_mps && same $trials-s/$no_mps STREAMS"
  [ -z "$mps" ] || step mps 60 bash -c "repro run $four paths.work=$trials-mps && same $trials-mps MPS"
  step nccl 40 "$PYTHON" $here/nccl_graph.py

  # How single layers could be computed faster; a rehearsal only sees that it works.
  step kernels 40 "$PYTHON" $here/kernels.py
  step bench 240 bash -c "repro bench $parts --minutes $(minutes 240 20) --json $OUT/bench.json"
}

second() {
  local reserve=${GPU_RESERVE:-25} number=0 seconds line archive # the reserve is for packing
  step data 60 "$PYTHON" $here/cifar_parts.py unpack "$KEEP/part1" "$load/cifar" "$REPRO_DATA" || return 1
  for archive in "$KEEP"/resume/*.tar "$load"/resume/*.tar; do
    [ -f "$archive" ] && tar -xf "$archive" -C "$REPRO_WORK"
  done
  while read -r line; do
    [ -z "$line" ] && continue
    number=$(( number + 1 ))
    seconds=$(( $(left) - reserve ))
    if [ "$seconds" -lt "${GPU_LEAST:-45}" ]; then
      echo "=== left out: $line"
      continue
    fi
    step "runs-$number" "$seconds" \
      bash -c "repro run $line execution.max_minutes=$(minutes "$seconds" "${GPU_SAVE:-22}") execution.progress=lines"
  done <<< "${GPU_PLAN:-$(cat $here/plan.txt)}"
  step status 15 bash -c "repro status | tail -20"
}

speeds() {
  local photos="data=imagenet paths.data=$KEEP/photos data.partial=true" # small ones: only what the device does with a batch counts
  [ -z "${GPU_REHEARSAL:-}" ] || photos="$photos model.depth=18"
  step photos 30 "$PYTHON" -c "from pathlib import Path; from tests.photos import make_imagenet
make_imagenet(Path('$KEEP/photos'), 1, 1, classes=tuple(f'n{number:08}' for number in range(1000)))" || return 1
  step imagenet 150 bash -c "repro bench --quick $photos --minutes $(minutes 150 10) --json $OUT/bench-imagenet.json"
  step compiled 280 bash -c "repro bench model.depth=20,110 execution.step=compile optim.precision=tf32,bf16 \
    --minutes $(minutes 280 20) --json $OUT/bench-compiled.json"
}

$stage
head -40 "$REPRO_WORK"/*/failure.txt 2>/dev/null
[ "$stage" = speeds ] || "$PYTHON" $here/pack_out.py "$REPRO_WORK" "$OUT" 5
ls -la "$OUT"
echo "done at $(( SECONDS - begun )) s of $total; failed:${failed:- none}"
[ -z "$failed" ]
