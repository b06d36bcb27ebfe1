#!/bin/sh
# A Python environment with PyTorch for the CPU, in the folder given.
set -eu
target=$1
[ -f "$target/.complete" ] && exit 0
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy safetensors
touch "$target/.complete"
