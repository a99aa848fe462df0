#!/bin/bash
# service.sh up|down: the host of the services, as root.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lab.sh"

postgres=$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)
postgres=$(dirname "$postgres")
dir=$LAB_DIR/service

sql() { by postgres psql -qAtX -v ON_ERROR_STOP=1 -h "$dir" -U postgres "$@"; }

up() {
	mkdir -p "$dir"
	install -d -m 700 -o postgres "$dir/pg"
	by postgres "$postgres/initdb" -D "$dir/pg" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions >/dev/null
	chown postgres "$dir" && chmod 700 "$dir"
	printf '%s\n' "local all all trust" "host all all $LAB_AGENT/32 scram-sha-256" >"$dir/pg/pg_hba.conf"
	start postgresql postgres "$postgres/postgres" -D "$dir/pg" -c listen_addresses="$LAB_SERVICE" -c unix_socket_directories="$dir"
	until_ok 30 sql -d postgres -c "SELECT 1"

	# NATS knows one user, by its key.
	nk -gen user >"$dir/nats.nk"
	cat >"$dir/nats.conf" <<-END
		listen: "$LAB_SERVICE:4222"
		jetstream: {store_dir: "$dir/nats"}
		authorization: {users: [{nkey: $(nk -inkey "$dir/nats.nk" -pubout)}]}
	END
	chown postgres "$dir"/nats.*
	start nats postgres nats-server -c "$dir/nats.conf"

	install -d -m 700 -o postgres "$dir/recorder"
	by postgres sallyport-recorder key --key "$dir/recorder/recorder.key" >"$dir/recorder.pub"
	start recorder postgres sallyport-recorder run --store "$dir/recorder" --nats "$NATS" --nkey "$dir/nats.nk"

	# The clinic, and what the agent host must be handed.
	sql -d postgres -c "CREATE DATABASE clinic" -c "CREATE DATABASE lab"
	sed -e 's/{{patients}}/12/g' -e 's/{{password}}/agent/' -e 's/{{catalog}}/catalog/' "$REPO/cmd/internal/stand/clinic.sql" >"$dir/clinic.sql"
	sql -d clinic -f - <"$dir/clinic.sql" >/dev/null
	sql -d lab -v secret="$LAB_SECRET" -v key="$(cat "$dir/nats.nk")" -v recorder="$(cat "$dir/recorder.pub")" <<-'END'
		CREATE ROLE lab LOGIN PASSWORD :'secret';
		CREATE TABLE hand AS SELECT :'key' AS nats, :'recorder' AS recorder;
		GRANT SELECT ON hand TO lab;
	END
}

down() {
	for name in recorder nats; do stop $name; done
	stop postgresql INT
	rm -rf --one-file-system "$dir"
}

[ "${1:-}" = up ] || [ "${1:-}" = down ] || fail "usage: service.sh up|down"
"$1"
