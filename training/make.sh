#!/bin/sh
# Makes the bundled model from nothing: training/make.sh [evaluate]
#
# Every step goes on where it was stopped, so this can be interrupted and run again. What it makes stays in training/work.
# From the environment: DEVICE (cpu, cuda), SPEECH_HOURS, TRAIN_HOURS and COOLDOWN_HOURS of audio.
set -eu
cd "$(dirname "$0")"

stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

missing=
PATH=$PATH:/usr/sbin:/sbin # ldconfig
for library in libespeak-ng.so.1 libflite.so.1; do
    ldconfig -p | grep -q "$library" || missing="$missing $library"
done
[ -d /usr/share/festival/voices/us/cmu_us_slt_arctic_hts ] || missing="$missing festvox-us-slt-hts"
[ -d /usr/share/festival/voices/english/ked_diphone ] || missing="$missing festvox-kdlpc16k"
[ -z "$missing" ] || stop "not installed:$missing
On Debian: apt-get install espeak-ng flite festival festvox-us-slt-hts festvox-kdlpc16k"

if [ ! .venv/done -nt requirements.txt ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet -r requirements.txt
    touch .venv/done
fi
# The memory of large tensors is kept: asking the system for it anew takes a twentieth of a training step.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000
maker() { .venv/bin/python -m whisper_maker "$@"; }

if [ "${1:-}" = evaluate ]; then
    maker text --no-read
    maker speech --hours 0
    maker evaluate --model ../models/bundled
    exit
fi

device=${DEVICE:-cpu}
maker text
maker speech --hours "${SPEECH_HOURS:-120}"
maker train --device "$device" --hours "${TRAIN_HOURS:-400}"
maker train --device "$device" --hours "${COOLDOWN_HOURS:-80}" --cooldown
maker export
maker evaluate
maker card
echo "The model is in training/work/model. Copy it over models/bundled once its card is better."
