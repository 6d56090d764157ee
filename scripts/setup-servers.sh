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
