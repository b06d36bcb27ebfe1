#!/bin/sh
# Every benchmark on data made here. `./run bench` calls it with the build folder; BENCH_PATIENTS sets the import's size.
set -eu
build=$1
work=build/bench-data
patients=${BENCH_PATIENTS:-20000}
theriac=$build/bin/theriac
# recommend_bench also goes around the ABI, so it must find the engine by itself.
THERIAC_ENGINE=$(pwd)/$build/lib/libtheriac_torch.so
export THERIAC_ENGINE
mkdir -p "$work"
if [ ! -d "$work/model-gamenet" ]; then
  "$theriac" data generate cohort -o "$work/small" --set patients=600 --seed 9 --quiet
  "$theriac" data import fhir "$work/small" -o "$work/cohort" --quiet
  for method in gamenet retain; do
    "$theriac" fit $method --data "$work/cohort" -o "$work/model-$method" --seed 1 --set train.epochs=2 --set tree.epochs=5 --quiet
  done
fi
[ -d "$work/fhir-$patients" ] || "$theriac" data generate cohort -o "$work/fhir-$patients" --format fhir --set patients="$patients" --quiet
[ -d "$work/mimic-$patients" ] || "$theriac" data generate cohort -o "$work/mimic-$patients" --format mimic-iv --set patients="$patients" --quiet

for method in gamenet retain; do
  echo "== one patient, $method"
  "$build/bench/recommend_bench" "$work/model-$method"
done
if [ ! -d "$work/model-next" ]; then
  "$theriac" data generate sequences -o "$work/clicks.txt" --set users=20000 --set items=12000 --set clusters=300 --quiet
  "$theriac" data import sequences "$work/clicks.txt" -o "$work/clicks" --quiet
  "$theriac" fit sasrec --data "$work/clicks" -o "$work/model-next" --seed 1 --set train.epochs=1 --quiet
fi
for threads in 1 2; do
  echo "== next items, 20,000 users and 12,000 items, $threads thread(s)"
  "$build/bench/next_item_bench" --weights "$work/model-next/model.safetensors" --sequences "$work/clicks.txt" --threads $threads
done
echo "== matrix products, one thread"
"$build/bench/matrix_product_bench"
echo "== reading $patients patients"
"$build/bench/core_bench" "$work/fhir-$patients" "$work/mimic-$patients/hosp" "$work/mimic-$patients/ndc_atc.csv"
if list=${THERIAC_DATA_DIR:-../shared/data}/clinical/icd9cm/nodes.csv.gz && [ -f "$list" ]; then
  for threads in 1 2; do
    echo "== tree pre-training, ICD-9-CM, 50 epochs, $threads thread(s)"
    rm -rf "$work/tree"
    start=$(date +%s.%N)
    "$theriac" fit code_tree --set system=icd9cm --set list="$list" -o "$work/tree" --threads $threads --seed 0 --quiet
    echo "$(date +%s.%N) $start" | awk '{printf "%.1f s\n", $1 - $2}'
  done
  "$theriac" model info "$work/tree"
fi
