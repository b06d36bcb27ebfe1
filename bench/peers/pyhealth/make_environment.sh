#!/bin/sh
# A Python environment with PyHealth 1.1.6 and the same LibTorch release as ours, in the folder given. CPU only: of the CUDA
# packages just the two libraries that torch's CPU library loads.
set -eu
target=$1
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
[ -f "$target/.complete" ] && exit 0
python3 -m venv "$target"
"$target/bin/pip" install --quiet --disable-pip-version-check --no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
"$target/bin/pip" install --quiet --disable-pip-version-check filelock typing-extensions sympy networkx jinja2 fsspec
# rdkit and the text encoders are of models that are not compared here, but PyHealth imports them.
"$target/bin/pip" install --quiet --disable-pip-version-check "numpy<2" "scikit-learn<1.6" "scipy<1.14" pandas==1.5.3 tqdm pandarallel mne urllib3 rdkit
"$target/bin/pip" install --quiet --disable-pip-version-check --no-deps pyhealth==1.1.6
touch "$target/.complete"
