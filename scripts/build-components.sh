#!/bin/sh
# Builds components to WebAssembly: scripts/build-components.sh [--project FOLDER] CRATE…
#
# The output is target/components/CRATE.wasm. The crates are in this workspace, or in a separate project, whose dependencies are not
# locked. The target's standard library comes from
#   1. rustup: `rustup target add wasm32-wasip2`,
#   2. or, if rustup cannot download it, Debian's rustc-web, with the library built from source.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
stop() { say "error: $*"; exit 1; }

command -v rustc >/dev/null || stop "no Rust compiler: install it from https://rustup.rs"

target=wasm32-wasip2
flags="-C target-feature=+simd128"
project=--locked profile=component
if [ "$1" = --project ]; then
    project="--manifest-path $2/Cargo.toml" profile=release
    shift 2
fi
packages=
for crate in "$@"; do packages="$packages -p $crate"; done

# "rustup", "debian", or empty if neither is installed.
toolchain() {
    if [ -n "$(find "$(rustc --print sysroot)/lib/rustlib/$target/lib" -name 'libstd-*.rlib' 2>/dev/null)" ]; then
        echo rustup
    elif [ -x /usr/bin/cargo ] && [ -d /usr/lib/wasm32-wasi ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src" ]; then
        echo debian
    fi
}

debian_packages="rustc-web cargo-web rust-web-src wasi-libc"

if [ -z "$(toolchain)" ]; then
    install="apt-get install -y --no-install-recommends $debian_packages"
    if command -v rustup >/dev/null && rustup target add "$target" >&2; then
        :
    elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "rustup could not add $target; installing Debian's $debian_packages instead"
        # shellcheck disable=SC2086
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $debian_packages >&2 ||
            stop "could not install $debian_packages: check the network, then run this again"
    else
        stop "no standard library for $target: run 'rustup target add $target' (needs network); on Debian, '$install' as root also works"
    fi
fi

case "$(toolchain)" in
rustup)
    # shellcheck disable=SC2086
    RUSTFLAGS="$flags" cargo build $project --profile $profile --target "$target" --target-dir target/wasm $packages
    ;;
debian)
    # Debian ships the library's source; the two linkers are part of every rustup toolchain.
    linkers="$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin"
    [ -x "$linkers/wasm-component-ld" ] || stop "no wasm-component-ld: install Rust with rustup (https://rustup.rs), whose toolchains include it"
    # shellcheck disable=SC2086
    PATH="/usr/bin:$PATH:$linkers" RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTFLAGS="$flags -L native=/usr/lib/wasm32-wasi" \
        /usr/bin/cargo build $project --profile $profile -Zbuild-std=std,panic_abort \
        --target "$target" --target-dir target/wasm $packages
    ;;
*)
    stop "no standard library for $target: run 'rustup target add $target' (needs network), or install $debian_packages"
    ;;
esac

mkdir -p target/components
for crate in "$@"; do
    # A library's file has `_` in its name, a program's has `-`.
    name=$(printf %s "$crate" | tr - _)
    [ -e "target/wasm/$target/$profile/$name.wasm" ] || name=$crate
    # Replace only changed files: the host watches and hashes them.
    cmp -s "target/wasm/$target/$profile/$name.wasm" "target/components/$crate.wasm" ||
        cp "target/wasm/$target/$profile/$name.wasm" "target/components/$crate.wasm"
done
