#!/bin/sh
# Sets up the peers that are Python packages, as bench/requirements.txt pins them, in .tools/bench.
set -eu
cd "$(dirname "$0")/.."

stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

cmp -s bench/requirements.txt .tools/bench/requirements.txt && exit 0
command -v python3 >/dev/null || stop "no Python 3: install it (Debian and Ubuntu: apt-get install python3 python3-venv)"
printf 'fetching faster-whisper and transformers into .tools/bench\n' >&2
rm -rf .tools/bench
python3 -m venv .tools/bench || stop "Python has no venv: install it (Debian and Ubuntu: apt-get install python3-venv)"
.tools/bench/bin/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt >&2 ||
    stop "pip cannot download the peers: check the network and pip's configuration, then run this again"
cp bench/requirements.txt .tools/bench/
