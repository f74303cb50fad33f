#!/usr/bin/env bash
# Writes the lake of this folder with the Hindcast of an earlier commit: tests/data/lake_landed/make.sh COMMIT
# The commit's code runs in this checkout's environment, or with the interpreter that PYTHON names.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
scratch=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$scratch/code"; rm -rf "$scratch"' EXIT
git -C "$root" worktree add -q --detach "$scratch/code" "$1"
cd "$scratch"

mkdir manifests
cat > manifests/web.yaml << 'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {team: web}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: default}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
YAML
cat > hindcast.yaml << 'YAML'
lake: {url: ./lake}
clusters: [{name: gke, kubernetes: {manifests: ./manifests}}]
YAML
hindcast() { PYTHONPATH=$scratch/code "$python" -m hindcast "$@" --config hindcast.yaml; }
head -n 300 "$root/tests/data/hubble/real_2021_gke.jsonl" > first.jsonl
sed -n 301,400p "$root/tests/data/hubble/real_2021_gke.jsonl" > second.jsonl
hindcast import first.jsonl --cluster gke
hindcast config snapshot
hindcast maintain compact
hindcast maintain rollup
hindcast import second.jsonl --cluster gke # stays as the import wrote it
hindcast sql "SELECT count(*) FROM flows"  # leaves a row in the access log
rm -rf "$here/lake"
cp -r lake "$here/lake"
