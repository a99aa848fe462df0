#!/bin/bash
# netns.sh runs the lab without machines, as root: each host is a network
# namespace of this one, on the two ends of a wire. Agents are covered by cgroup,
# and nothing else here is.
here=$(cd "$(dirname "$0")" && pwd)
LAB_SECRET=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
LAB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/lab.XXXXXX")
export LAB_SECRET LAB_DIR LAB_MODE=cgroup LAB_SERVICE=10.78.0.11 LAB_AGENT=10.78.0.10
# shellcheck source-path=SCRIPTDIR
. "$here/lab.sh"
chmod 755 "$LAB_DIR"
service=lab-service-$$ agent=lab-agent-$$

# on HOST COMMAND...: its network, and all else this machine's.
on() {
	local ns=$1
	shift
	nsenter --net="/run/netns/$ns" -- "$@"
}

cleanup() {
	local code=$?
	if [ $code != 0 ]; then tail -n 20 "$LAB_DIR"/log/* >&2 || true; fi
	on $agent "$here/agent.sh" down || code=1
	on $service "$here/service.sh" down || code=1
	for ns in $service $agent; do ip netns del "$ns" || code=1; done
	rm -rf --one-file-system "$LAB_DIR"
	exit $code
}

ip netns add $service
ip netns add $agent
trap cleanup EXIT
trap 'exit 1' INT TERM HUP
ip -n $service link add eth0 type veth peer name eth0 netns $agent
for ns in $service $agent; do
	address=$LAB_SERVICE
	[ "$ns" = $service ] || address=$LAB_AGENT
	ip -n "$ns" link set lo up
	ip -n "$ns" address add "$address/24" dev eth0
	ip -n "$ns" link set eth0 up
done
on $service "$here/service.sh" up
on $agent "$here/agent.sh" up
on $agent "$here/scenarios.sh" agent
on $service "$here/scenarios.sh" service
