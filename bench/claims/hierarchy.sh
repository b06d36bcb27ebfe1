#!/bin/sh
# The claim of HIER on data whose labels depend on tree ancestors (docs/hierarchy-claim.md): three seeds, RETAIN with each kind of
# code vector, PRAUC on codes seen in training and on codes that are not.
#
#     bench/claims/hierarchy.sh [ICD9PROC_LIST.csv]        theriac must be on the PATH; without a list, generated codes serve
set -eu
list=${1:-}
work=build/claims/hierarchy
rm -rf "$work"
mkdir -p "$work"
prauc() { theriac evaluate "$1" --data "$2" --json | python3 -c 'import json, sys; print("%.4f" % json.load(sys.stdin)["metrics"]["prauc"])'; }

printf '%-5s %-11s %8s %8s\n' seed vectors seen unseen
for seed in 0 1 2; do
  data=$work/$seed
  theriac data generate hierarchy_claim -o "$data" --seed "$seed" --set list="$list" --quiet >/dev/null
  for parts in "hier true true false" "relation true false false" "position false true false" "ids false false true"; do
    # shellcheck disable=SC2086
    set -- $parts
    theriac fit retain --data "$data/train" -o "$data-$1" --seed "$seed" --quiet --set encoder.use_relation="$2" \
      --set encoder.use_position="$3" --set encoder.use_id="$4" --set lists.icd9proc="$list" --set table_cache="$work/trees" \
      --set tree.epochs=20 --set train.epochs=15 >/dev/null
  done
  theriac fit most_frequent --data "$data/train" -o "$data-popularity" --quiet >/dev/null
  for vectors in hier relation position ids popularity; do
    printf '%-5s %-11s %8s %8s\n' "$seed" "$vectors" "$(prauc "$data-$vectors" "$data/test_seen")" "$(prauc "$data-$vectors" "$data/test_unseen")"
  done
done
