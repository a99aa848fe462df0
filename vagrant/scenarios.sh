#!/bin/bash
# scenarios.sh agent|service: what the lab is to show, each with its check, as
# root on the host of that name; the agents' first.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lab.sh"

export PGHOST=$LAB_SERVICE PGUSER=agent PGPASSWORD=agent PGDATABASE=clinic
dir=$LAB_DIR/agent
passed=0

# agent COMMAND... as an agent: guarded, with its token.
agent() { exec_as agent-a "$@"; }

exec_as() {
	local token=$dir/tokens/$1.jwt
	shift
	sallyport -c "$dir/sallyport.yaml" exec --token-file "$token" --user nobody -- "$@" 2>&1
}

# shows WHAT PATTERN COMMAND...: the output must have the pattern, and nothing
# that is protected.
shows() {
	local what=$1 pattern=$2 out
	shift 2
	out=$("$@") || true
	if ! grep -qE -- "$pattern" <<<"$out" || grep -qE 'Canary|987-[0-9]{2}-|canary[0-9]' <<<"$out"; then
		fail "$what: want $pattern and nothing protected: $(tail -n 5 "$LAB_DIR"/log/sallyport 2>/dev/null)
$out"
	fi
	echo "ok: $what"
	passed=$((passed + 1))
}

on_agent() {
	shows "a query is masked by the server itself" '\*\*\*-\*\*-0001' agent psql -c "SELECT name, ssn, city FROM patients ORDER BY id LIMIT 3"
	shows "and so are functions of what is masked" '\*\*' agent psql -c "SELECT upper(ssn), reverse(name) FROM patients LIMIT 2"
	shows "a destructive statement is refused, and the session goes on" '12' agent psql -At -c "DELETE FROM patients" -c "SELECT count(*) FROM patients"
	shows "a token of somebody else is refused" 'FATAL' exec_as stranger psql -c "SELECT 1"
	shows "a datagram does not get round" 'not permitted' agent bash -c "exec 3<>/dev/udp/$LAB_SERVICE/5432"
	shows "nor does the passage's own port" 'not permitted|closed|refused|reset' agent psql -h 127.0.0.1 -p 15432 -c "SELECT 1"
	shows "nor a network namespace of one's own" 'not permitted|unreachable|unshare' agent unshare -Urn psql -c "SELECT 1"

	# The daemon dies with its loader; the guard stays in the kernel.
	stop sallyport KILL
	shows "with sallyport killed, agents are refused" 'not permitted|Connection refused' agent_without psql -c "SELECT 1"
	"$REPO/vagrant/agent.sh" run
	shows "started again, it serves" '\*\*\*-\*\*-0001' agent psql -c "SELECT ssn FROM patients ORDER BY id LIMIT 1"
}

# agent_without: `sallyport exec` needs a loader, a guarded process does not.
agent_without() {
	local cgroup
	cgroup=$(findmnt -n -t cgroup2 -o TARGET | head -n 1)
	[ "$LAB_MODE" = host ] || cgroup=$cgroup/sallyport-lab
	# The shell joins, then becomes the agent.
	# shellcheck disable=SC2016
	bash -c 'echo $$ >"$0/cgroup.procs" && exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"' "$cgroup" "$@" 2>&1
}

on_service() {
	local store=$LAB_DIR/service/recorder
	until_ok 60 recorded "$store"
	shows "the recorder has the agent's sessions" 'agent-a' sallyport sessions ls --store "$store"
	shows "and what was refused" 'clinic' sallyport sessions ls --store "$store" --verdict block
	shows "and its chain is whole" 'sound' sallyport verify --store "$store"
}

recorded() { sallyport sessions ls --store "$1" --verdict block | grep -q agent-a; }

case "${1:-}" in
agent | service) "on_$1" ;;
*) fail "usage: scenarios.sh agent|service" ;;
esac
echo "$passed passed, 0 failed"
