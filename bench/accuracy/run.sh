#!/bin/sh
# Counts word errors next to faster-whisper's: bench/accuracy/run.sh [--help] [OPTIONS]
#
# Sets up what is missing: the peer into .tools/bench, the recordings into .tools/speech, the models into .tools/models.
# Expects the host to be built. bench/README.md says what is measured and how.
set -eu
cd "$(dirname "$0")/../.."
sh bench/peers.sh
PYTHONPATH=bench exec .tools/bench/bin/python -m accuracy "$@"
