#!/bin/sh
# The base image if no container registry is reachable: this machine's Debian release, from this machine's own
# apt sources, with the packages of the notebook instance's image that Debian's minimum lacks. No python3: Debian's is
# newer than the one that the tests need there.
#
#     docker/base.sh NAME     build it, unless it exists
set -eu

name=$1
if docker image inspect "$name" >/dev/null 2>&1; then exit; fi

# shellcheck source=/dev/null
release=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
# shellcheck disable=SC2016  # apt's own placeholder
mirror=$(apt-get indextargets --format '$(REPO_URI)' \
    "Codename: $release" "Component: main" "Created-By: Packages" | head -n 1)
[ -n "$mirror" ] || {
    echo "base.sh: apt on this machine has no source for Debian $release" >&2
    exit 3
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The libraries are what a CPython of this machine is linked with: ssl, sqlite3, ctypes, readline, ...
packages=ca-certificates,sudo,procps,libssl3,libffi8,libsqlite3-0,libreadline8,libncursesw6,libexpat1,libbz2-1.0
packages=$packages,liblzma5,libuuid1,systemd,systemd-sysv,dbus
# A failure leaves a broken archive, which is not imported.
mmdebstrap --variant=minbase --include="$packages" --format=tar \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$release" - "$mirror" 2>"$log" | docker import - "$name" >/dev/null
docker image inspect "$name" >/dev/null 2>&1 || {
    tail -n 5 "$log" >&2
    exit 3
}
