#!/usr/bin/env bash
# make upgrade - brings the containers to the images, files and settings of today, without losing a stream.
#
# `docker compose up -d` stops what has changed, all services at once, before it starts anything of the new: for as long
# as streams take to end, and a start, new requests wait. This goes on one service after the other, and starts new workers
# and gateways beside the old ones, which drain when the new ones serve.
#
# --no-build: the images are there already, such as pulled ones.
# --all: replace the ingress and the embedded model too, if they have changed. That can be felt: the ingress takes no new
# connection until its streams have ended (up to 75 s), the model cuts the replies that it writes.
# Ctrl-C: a service whose new containers do not serve yet keeps its old ones, otherwise these drain first. Run it again.
# Further compose files, the project's name and other settings of Compose come from .env or the environment
# (COMPOSE_FILE, COMPOSE_PROJECT_NAME).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly patience=120 # seconds for new containers to serve

say() { echo "upgrade: $*"; }

running() { docker compose ps -q "$1"; }

# stale SERVICE - its running containers that differ from what Compose would create today.
stale() {
    local service=$1 ids image hash
    ids=$(running "$service")
    [[ -n $ids ]] || return 0
    hash=$(docker compose config --hash "$service")
    # shellcheck disable=SC2046,SC2086 # ids are words
    image=$(docker image inspect -f '{{.Id}}' "$(docker inspect -f '{{.Config.Image}}' $ids | head -n 1)" 2>/dev/null || true)
    local current="$image ${hash##* }"
    # shellcheck disable=SC2086
    docker inspect -f '{{.Id}} {{.Image}} {{index .Config.Labels "com.docker.compose.config-hash"}}' $ids |
        while read -r id state; do [[ $state == "$current" ]] || echo "$id"; done
}

# ready GATEWAY - whether the ingress would use it.
ready() { docker exec "$1" python -I -S fleet/process/probe.py "http://127.0.0.1:8501/readyz?for=balancer" 2>/dev/null; }

# serves SERVICE CONTAINER - whether it is healthy; and a gateway ready, unless none was before the upgrade.
serves() {
    [[ $(docker inspect -f '{{.State.Health.Status}}' "$2") == healthy ]] || return 1
    [[ $1 != gateway || -z $was_ready ]] || ready "$2"
}

# await SERVICE CONTAINER...
await() {
    local service=$1 until=$((SECONDS + patience)) id
    shift
    for id; do
        until serves "$service" "$id"; do
            ((SECONDS < until)) && [[ $(docker inspect -f '{{.State.Status}}' "$id") != exited ]] || return 1
            sleep 0.5
        done
    done
}

# retire CONTAINER... - begins to let them drain, and to remove them: a job with its own process group, which a Ctrl-C does
# not end. Stopped again, they would end at once.
retire() {
    set -m
    { docker stop "$@" && docker rm "$@"; } >/dev/null &
    set +m
}

# added - containers of $service that were not there before the upgrade, whether they run or not.
added() { comm -13 <(sort <<<"$before") <(docker compose ps -aq "$service" | sort); }

# What is to be done however this ends: the new containers go, or the old ones.
leaving=:
withdraw() {
    say "$service: the new ones are removed, and the old ones go on" >&2
    local new
    while new=$(added) && [[ -n $new ]]; do # Docker may still be about to start one
        # shellcheck disable=SC2086
        retire $new
        wait $! || sleep 1
    done
}
trap '$leaving' EXIT
trap 'exit 130' INT TERM HUP

# beside SERVICE - new containers beside the old ones, which leave when the new ones serve. These drain.
beside() {
    local old new id count
    service=$1
    docker compose rm -f "$service" >/dev/null 2>&1 # of stopped ones Compose would start the old version
    old=$(stale "$service")
    count=$(running "$service" | wc -w)
    ((count > 0)) || docker compose up -d --no-deps "$service"
    [[ -n $old ]] || return 0
    say "$service: $(wc -w <<<"$old") new beside $count"
    before=$(docker compose ps -aq "$service")
    leaving=withdraw
    docker compose up -d --no-deps --no-recreate --scale "$service=$((count + $(wc -w <<<"$old")))" "$service"
    new=$(added)
    # shellcheck disable=SC2086
    if (($(wc -w <<<"$new") < $(wc -w <<<"$old"))) || ! await "$service" $new; then
        say "$service: the new ones do not serve within $patience s:" >&2
        for id in $new; do docker logs --tail 20 "$id" >&2; done
        exit 1
    fi
    leaving=wait
    # shellcheck disable=SC2086
    retire $old
    say "$service: the old ones drain"
    wait $!
    leaving=:
}

# in_place SERVICE - the old container ends before the new one starts.
in_place() {
    [[ -z $(running "$1") || -n $(stale "$1") ]] || return 0
    say "$1: replaced"
    docker compose up -d --no-deps "$1"
    # shellcheck disable=SC2046
    await "$1" $(running "$1") || {
        say "$1: does not serve within $patience s; see docker compose logs $1" >&2
        exit 1
    }
}

# try_host - whether a new host starts. No member finds this one.
try_host() {
    [[ -n $(stale host) ]] || return 0
    say "check that the new host starts"
    local id
    id=$(docker compose run -d --no-deps -T host)
    leaving="docker rm -f $id"
    await host "$id" || {
        docker logs --tail 20 "$id" >&2
        say "the new host does not start; nothing was replaced" >&2
        exit 1
    }
    $leaving >/dev/null
    leaving=:
}

# A function, so that all of this file is read before it begins: it may be replaced meanwhile.
main() {
    build=yes all=
    for argument; do
        case $argument in
        --no-build) build= ;;
        --all) all=yes ;;
        *)
            echo "usage: deploy/upgrade.sh [--no-build] [--all]" >&2
            exit 2
            ;;
        esac
    done
    [[ -z $build ]] || docker compose build

    if [[ -z $(running gateway) ]]; then
        docker compose up -d --wait --wait-timeout "$patience"
        exit
    fi

    was_ready=
    for gateway in $(running gateway); do
        if ready "$gateway"; then was_ready=yes; fi
    done
    say "check the new worker's models, agents and settings"
    docker compose run --rm --no-deps -T worker python -m worker check
    docker compose run --rm --no-deps -T init # certificates and tokens that the new version needs
    try_host
    in_place host # streams pause until its successor is there
    [[ -z $all ]] || in_place model
    beside worker
    beside gateway
    [[ -z $all ]] || in_place ingress

    # What is none of these, and what did not run.
    rest=()
    for service in $(docker compose config --services); do
        case $service in
        init | host | worker | gateway) ;;
        model | ingress) [[ -n $(running "$service") ]] || rest+=("$service") ;;
        *) rest+=("$service") ;;
        esac
    done
    ((${#rest[@]} == 0)) || docker compose up -d --no-deps "${rest[@]}"

    for service in model ingress; do
        [[ -z $(stale "$service") ]] || say "$service has changed and goes on as it is; make upgrade ARGS=--all replaces it"
    done
}

main "$@"
exit
