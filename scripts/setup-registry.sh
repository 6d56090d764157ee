#!/bin/sh
# Provides an OCI registry for tests at .tools/registry/docker-registry: the one on the PATH, or Debian's, unpacked without
# installing it. If neither is available it prints a message, and the tests that need it report that they are skipped.
set -eu
cd "$(dirname "$0")/.."

folder=.tools/registry
program=$folder/docker-registry
[ -x $program ] && exit 0
mkdir -p $folder

if command -v docker-registry >/dev/null; then
    ln -sf "$(command -v docker-registry)" $program
    exit 0
fi
if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    # The package lists may be missing or outdated; only root can update them.
    download() { (cd $folder && apt-get download -qq docker-registry >/dev/null 2>&1); }
    if download || { [ "$(id -u)" = 0 ] && apt-get update -qq >/dev/null && download; }; then
        dpkg -x $folder/docker-registry_*.deb $folder/package
        mv $folder/package/usr/bin/docker-registry $program
        rm -rf $folder/package $folder/docker-registry_*.deb
        exit 0
    fi
fi
echo "no OCI registry for the tests: install docker-registry (Debian: apt-get install docker-registry; macOS: brew install distribution, linked as docker-registry)" >&2
