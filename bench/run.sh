#!/bin/sh
# Runs the benchmarks, side by side with peers: bench/run.sh [--json] [--rounds N] [MEASUREMENT…]
#
# Sets up whatever is missing: the peers (wasmtime's own server, faster-whisper, transformers) into .tools/, and the parts
# used only by the benchmarks. bench/README.md describes what is measured and how.
set -eu
cd "$(dirname "$0")/.."

stop() { printf 'error: %s\n' "$*" >&2; exit 1; }

command -v python3 >/dev/null || stop "no Python 3: install it (Debian and Ubuntu: apt-get install python3 python3-venv)"
command -v wrk >/dev/null || stop "no wrk, which makes the load: install it (Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk)"

# The version that the host is built with, and the features needed to serve: the same engine, the same allocator.
version=$(sed -n '/^name = "wasmtime"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)
wasmtime=.tools/wasmtime/bin/wasmtime
case "$($wasmtime --version 2>/dev/null)" in
"wasmtime $version"*) ;;
*)
    printf 'building wasmtime %s, once; this takes a while\n' "$version" >&2
    cargo install wasmtime-cli --version "$version" --locked --force --root .tools/wasmtime --no-default-features \
        --features run,serve,cranelift,pooling-allocator,parallel-compilation,component-model,component-model-async \
        --features backtrace,addr2line,demangle,gc,gc-copying,gc-drc,gc-null,threads >&2
    ;;
esac

sh bench/peers.sh
sh scripts/setup-servers.sh
sh scripts/build-components.sh probe-wasi02 probe-wasi03 bench-stages >&2
cargo build --release --locked --target-dir target --workspace --bin whisper-host >&2
cargo build --profile dist --locked --target-dir target --workspace --bin whisper-host --bin bench >&2
sh scripts/build-handlers.sh

# One thread for Python: a component runs in one thread, and so must its peer.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error
PYTHONPATH=bench exec .tools/bench/bin/python -m measure "$@"
