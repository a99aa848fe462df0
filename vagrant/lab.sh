# shellcheck shell=bash
# What the lab's scripts share. Two hosts: one serves (PostgreSQL, NATS, the
# recorder), on the other agents work behind sallyport. All of it is throwaway:
# keys and passwords are made here, and nothing is left after `down`.
#
#   LAB_SERVICE, LAB_AGENT  the hosts' addresses
#   LAB_SECRET              password by which the agent host fetches its keys
#   LAB_DIR                 files of the lab
#   LAB_BIN                 the programs, as `make build` leaves them
#   LAB_MODE                of interception: host or cgroup
set -euo pipefail
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${LAB_SERVICE:=192.168.56.11}" "${LAB_AGENT:=192.168.56.10}" "${LAB_SECRET:?is not set}"
: "${LAB_DIR:=/var/lib/sallyport-lab}" "${LAB_BIN:=$REPO/bin}" "${LAB_MODE:=host}"
export PATH="$LAB_BIN:$PATH" PGCONNECT_TIMEOUT=5
export NATS=nats://$LAB_SERVICE:4222

fail() {
	echo "lab: $*" >&2
	exit 1
}

# start NAME USER COMMAND... runs a server until `stop NAME`; its output is its
# log.
start() {
	local name=$1 user=$2
	shift 2
	mkdir -p "$LAB_DIR/run" "$LAB_DIR/log"
	setsid setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@" </dev/null >>"$LAB_DIR/log/$name" 2>&1 &
	echo $! >"$LAB_DIR/run/$name"
}

# stop NAME [SIGNAL] ends a server, and waits until it has gone.
stop() {
	local file=$LAB_DIR/run/$1 pid
	[ -f "$file" ] || return 0
	pid=$(cat "$file")
	rm "$file"
	kill "-${2:-TERM}" "$pid" 2>/dev/null || return 0
	until_ok 30 gone "$pid"
}

# A process that has ended stays a zombie where nobody is there to bury it.
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

# until_ok SECONDS COMMAND... repeats it until it succeeds.
until_ok() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "not in time: $*"
		sleep 0.2
	done
}

# by USER COMMAND... gives up root.
by() {
	local user=$1
	shift
	setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups -- "$@"
}
