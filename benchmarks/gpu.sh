#!/bin/sh
# All that is to be known of this package on one GPU, in under eight minutes: sh benchmarks/gpu.sh
# PYTHON is the interpreter; ONESHOT_GPU_TINY=1 runs everything in miniature on whatever there is, to see that it runs.
# The supernet of Once-for-All's published code takes part where it is installed: pip install --no-deps ofa
set -eu
cd "$(dirname "$0")/.."
python="${PYTHON:-python}"
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,utilization.gpu --format=csv,noheader
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" "$python" benchmarks/gpu.py ${ONESHOT_GPU_TINY:+--tiny} "$@"
