#!/bin/sh
# A Docker engine for the container tests. A running engine is used as it is. Otherwise, as root on Debian, one is
# installed and started, with its own data, socket and network.
#
#     docker/engine.sh start            make sure that an engine runs; print its DOCKER_HOST (empty: the usual one)
#     docker/engine.sh stop             stop the engine that `start` started, and its containers
#     docker/engine.sh with COMMAND...  run a command with an engine, and stop the engine if it was started for this
#
# `with` sets CI_REQUIRES_CONTAINERS=1 for the command if an engine runs, so that no test is skipped;
# otherwise the command runs without an engine. Exit status: 0, 3 no engine is possible here, else the command's.
set -u

# Absolute: with a relative data-root dockerd loops forever.
state=${NBPROVISION_ENGINE_HOME:-/var/tmp/nbprovision-engine}
socket=unix://$state/docker.sock

say() { printf 'engine: %s\n' "$*" >&2; }

answers() { timeout 5 docker version >/dev/null 2>&1; }

install_engine() {
    command -v dockerd >/dev/null && command -v mmdebstrap >/dev/null &&
        { docker compose version || docker-compose version; } >/dev/null 2>&1 && return
    [ -x /usr/bin/apt-get ] || {
        say "no Docker engine answers, and one can be installed on Debian only"
        return 3
    }
    say "installing docker.io, docker-compose and mmdebstrap"
    mkdir -p "$state"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        docker.io docker-compose mmdebstrap; } >"$state/apt.log" 2>&1 </dev/null || {
        say "apt-get could not install it; the end of $state/apt.log:"
        tail -n 5 "$state/apt.log" >&2
        return 3
    }
}

# Sets DOCKER_HOST if the engine is ours.
start() {
    answers && return
    DOCKER_HOST=$socket
    export DOCKER_HOST
    answers && return
    [ "$(id -u)" = 0 ] || {
        say "no Docker engine answers, and only root can start one"
        return 3
    }
    install_engine || return 3
    mkdir -p "$state"
    rm -f "$state/dockerd.pid" # left by a kill; a living engine would have answered
    [ -e "$state/ip_forward" ] || cp /proc/sys/net/ipv4/ip_forward "$state/ip_forward"
    # Published ports and exec work without iptables, and containers cannot reach the outside, as in a VPC without internet.
    setsid dockerd --data-root "$state/data" --exec-root "$state/run" --pidfile "$state/dockerd.pid" -H "$socket" \
        --storage-driver overlay2 --iptables=false --ip6tables=false --mtu 1400 --shutdown-timeout 2 \
        >"$state/dockerd.log" 2>&1 </dev/null &
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        answers && return
        sleep 0.5
    done
    say "dockerd does not answer; the end of $state/dockerd.log:"
    tail -n 5 "$state/dockerd.log" >&2
    return 3
}

stop() {
    [ -f "$state/dockerd.pid" ] || return 0
    pid=$(cat "$state/dockerd.pid")
    DOCKER_HOST=$socket
    export DOCKER_HOST
    docker ps -aq | xargs -r docker rm -f >/dev/null
    docker network prune -f >/dev/null 2>&1 # their bridges would stay
    kill "$pid" 2>/dev/null || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.25
    done
    ip link del docker0 2>/dev/null
    [ ! -f "$state/ip_forward" ] || cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward 2>/dev/null
    rm -f "$state/ip_forward"
}

# The last of several `with` ends the engine: each holds a share of the lock while its command runs.
with() {
    mkdir -p "$state" 2>/dev/null && exec 9>"$state/users.lock" && flock --shared 9
    if start; then
        CI_REQUIRES_CONTAINERS=1
        export CI_REQUIRES_CONTAINERS
    fi
    if [ "${DOCKER_HOST-}" = "$socket" ]; then
        trap 'flock --exclusive --nonblock 9 && stop' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
    fi
    "$@" 9>&-
}

case ${1-} in
start)
    start || exit
    printf '%s\n' "${DOCKER_HOST-}"
    ;;
stop) stop ;;
with)
    shift
    with "$@"
    ;;
*)
    sed -n 's/^# \{0,1\}//; 2,12p' "$0" >&2
    exit 5
    ;;
esac
