#!/bin/bash
# build.sh installs what the lab needs and builds its programs, on Debian 12 or
# 13, as root, where go.sh has been.
set -euo pipefail
cd "$(dirname "$0")/.."
# The lab has a PostgreSQL of its own.
mkdir -p /etc/postgresql-common/createcluster.d
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.d/lab.conf
export DEBIAN_FRONTEND=noninteractive GOTOOLCHAIN=local
apt-get update -q
apt-get install -q -y --no-install-recommends make gcc libc6-dev postgresql util-linux iproute2
make build
# These are modules that sallyport itself is built with.
go build -o bin/ github.com/nats-io/nats-server/v2 github.com/nats-io/nkeys/nk
