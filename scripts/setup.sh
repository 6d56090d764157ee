#!/bin/sh
# Downloads the project's only dependency that is not a crate, the ONNX Runtime library, into .tools/.
# Returns immediately if it is already there. A missing prerequisite is reported with a way to install it.
set -eu
cd "$(dirname "$0")/.."

stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

command -v cargo >/dev/null || stop "no Rust: install it from https://rustup.rs, then run this again"
command -v cc >/dev/null ||
    stop "no C compiler: install gcc or clang (Debian and Ubuntu: apt-get install gcc libc6-dev; macOS: xcode-select --install)"

# The library is extracted from the Python wheel of the same version, one per platform, pinned by hash. The wheel's
# Python version does not matter: the library inside does not depend on Python.
version=1.31.1
case "$(uname -s)-$(uname -m)" in
Linux-x86_64)
    platform=manylinux_2_28_x86_64
    hash=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
    library=libonnxruntime.so.$version ;;
Linux-aarch64)
    platform=manylinux_2_28_aarch64
    hash=da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3
    library=libonnxruntime.so.$version ;;
Darwin-arm64)
    platform=macosx_14_0_arm64
    hash=60b6b69bfe580eab576cacc5d132a0e9cf2a37fcfd18d46dd191042b1d1ed0d7
    library=libonnxruntime.$version.dylib ;;
*) stop "no ONNX Runtime wheel for $(uname -s) on $(uname -m): build the library and name it with --onnxruntime" ;;
esac

folder=.tools/onnxruntime
stamp="$version $hash"
if [ "$(cat $folder/VERSION 2>/dev/null)" = "$stamp" ] && [ -e $folder/libonnxruntime.so ]; then
    exit 0
fi

command -v python3 >/dev/null || stop "no Python 3: install it with its pip (Debian and Ubuntu: apt-get install python3 python3-pip)"
python3 -m pip --version >/dev/null 2>&1 || stop "Python has no pip: install it (Debian and Ubuntu: apt-get install python3-pip; elsewhere: python3 -m ensurepip)"

printf 'downloading ONNX Runtime %s\n' "$version" >&2
rm -rf $folder .tools/download
mkdir -p .tools/download
printf 'onnxruntime==%s --hash=sha256:%s\n' "$version" "$hash" >.tools/download/requirements.txt
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 --platform "$platform" \
    -d .tools/download -r .tools/download/requirements.txt ||
    stop "pip cannot download ONNX Runtime: check the network and pip's configuration, then run this again"
python3 -m zipfile -e .tools/download/onnxruntime-*.whl .tools/download/wheel
mkdir -p $folder
cp ".tools/download/wheel/onnxruntime/capi/$library" $folder/libonnxruntime.so
cp .tools/download/wheel/onnxruntime/LICENSE .tools/download/wheel/onnxruntime/ThirdPartyNotices.txt $folder/ 2>/dev/null ||
    cp .tools/download/wheel/onnxruntime-*.dist-info/licenses/* $folder/ 2>/dev/null || true
rm -rf .tools/download
printf '%s\n' "$stamp" >$folder/VERSION
