#!/bin/sh
# Builds the images with buildah, without a daemon: deploy/image/build.sh [TARGET...]; by default both targets.
#
# Settings: BASE (the image that they stand on), ISOLATION and STORAGE_DRIVER of buildah, SOURCE_DATE_EPOCH (the last commit's time).
# Wheels are downloaded first, with this machine's pip and its settings, and are checked by their hashes again when they are installed.
set -eu
cd "$(dirname "$0")/../.."
python=.venv/bin/python
: "${BASE:=debian:bookworm-slim}" "${ISOLATION:=chroot}" "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
[ $# -gt 0 ] || set -- hindcast hindcast-airflow

rm -rf build/image
mkdir -p build/image build/wheels
version=$($python -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
$python -m pip wheel -q --no-deps -w build/image .
for target in "$@"; do
    extras=collectors,pipelines,dashboards,api
    [ "$target" = hindcast ] || extras=$extras,airflow
    $python deploy/image/locked.py $extras > build/image/lock
    $python -m pip download -q --no-deps --only-binary :all: --require-hashes -d build/wheels -r build/image/lock
    buildah build --isolation "$ISOLATION" --layers --target "$target" --timestamp "$SOURCE_DATE_EPOCH" \
        --build-arg BASE="$BASE" --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
        --volume "$PWD/build/wheels:/wheels:ro" ${NETWORK:+--network "$NETWORK"} -t "$target:$version" -f Containerfile .
done
