#!/bin/bash
# agent.sh up|run|down: the host of the agents, as root. `run` starts sallyport
# again after it has died.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lab.sh"

dir=$LAB_DIR/agent
config=$dir/sallyport.yaml

fetch() { PGPASSWORD=$LAB_SECRET psql -qAtX -h "$LAB_SERVICE" -U lab -d lab -c "SELECT $1 FROM hand"; }

up() {
	install -d -m 755 "$dir" "$dir/keys" "$dir/tokens"
	until_ok 60 fetch nats
	(umask 077 && fetch nats >"$dir/keys/nats.nk" && echo catalog >"$dir/keys/catalog")
	fetch recorder >"$dir/keys/recorder.pub"
	cp "$REPO/cmd/internal/stand/policy.yaml" "$dir/policy.yaml"

	start oidcop nobody oidcop serve --listen 127.0.0.1:9400 --life 24h --client "agent-a:$LAB_SECRET" --client "alice:$LAB_SECRET" --client "stranger:$LAB_SECRET"
	for client in agent-a stranger; do
		until_ok 30 oidcop token --issuer http://127.0.0.1:9400 --client $client --secret "$LAB_SECRET" --out "$dir/tokens/$client.jwt"
	done

	cat >"$config" <<-END
		host: agent
		state: $dir/state
		run: $dir/run
		user: daemon
		policy: policy.yaml
		interception:
		  mode: $LAB_MODE
		  port: 15432
		  pins: $dir/bpf/sallyport
		$([ "$LAB_MODE" = host ] || echo "  cgroups: [/sallyport-lab]")
		resources:
		  - name: clinic
		    protocol: postgres
		    addresses: ["$LAB_SERVICE:5432"]
		    catalog: {user: sallyport_catalog, password_file: keys/catalog}
		    # The wire is the lab's own; elsewhere a server proves who it is.
		    tls: {server: off}
		identity:
		  issuers: [{url: "http://127.0.0.1:9400", audience: sallyport}]
		  workloads:
		    - name: agent-a
		      match: {cgroup: "/sallyport.guarded/**"}
		      subjects: [agent-a]
		evidence:
		  nats: {url: "$NATS", credentials: keys/nats.nk}
		  recorder_key: keys/recorder.pub
	END
	mkdir -p "$dir/bpf"
	mountpoint -q "$dir/bpf" || mount -t bpf bpf "$dir/bpf"
	sallyport -c "$config" guard up
	run
}

run() {
	start sallyport root sallyport -c "$config" run
	until_ok 60 serves
}

serves() { sallyport -c "$config" guard status && sallyport -c "$config" exec --token-file "$dir/tokens/agent-a.jwt" --user nobody -- psql "host=$LAB_SERVICE user=agent password=agent dbname=clinic" -c "SELECT 1"; }

down() {
	stop oidcop
	stop sallyport
	# The daemon may still be dying.
	[ ! -f "$config" ] || until_ok 20 sallyport -c "$config" guard down
	! mountpoint -q "$dir/bpf" || umount "$dir/bpf"
	rm -rf --one-file-system "$dir"
}

case "${1:-}" in
up | run | down) "$1" ;;
*) fail "usage: agent.sh up|run|down" ;;
esac
