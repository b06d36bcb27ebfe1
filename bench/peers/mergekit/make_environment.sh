#!/bin/sh
# A Python environment (3.11) with mergekit 0.1.4 and PyTorch for the CPU, in the folder given. The torch of the Python package
# index loads its CUDA libraries at import also where no GPU is; nothing here uses them.
set -eu
target=$1
[ -f "$target/.complete" ] && exit 0
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check mergekit==0.1.4 torch==2.11.0 "transformers>=4.45,<5" peft xxhash
touch "$target/.complete"
