#!/bin/sh
# A Python environment (3.11) with PyHealth 1.1.6 and the same LibTorch release as ours, in the folder given (7 GB: torch's
# Python module loads every CUDA library, also where no GPU is). The pins are what PyHealth's pandas 1.5.3 can be imported with.
set -eu
target=$1
[ -f "$target/.complete" ] && exit 0
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check pyhealth==1.1.6 torch==2.11.0 "numpy<2" "scikit-learn<1.6" "scipy<1.14"
touch "$target/.complete"
