#!/bin/bash
# go.sh VERSION installs make and a Go on Debian 12, as root: the Go of Debian's
# backports fetches the one that is asked for, which the checksum database
# vouches for.
set -euo pipefail
version=$1
echo "deb http://deb.debian.org/debian bookworm-backports main" >/etc/apt/sources.list.d/backports.list
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends make ca-certificates golang-1.23-go/bookworm-backports golang-1.23-src/bookworm-backports
cd /
root=$(GOTOOLCHAIN="go$version" GOMODCACHE=/opt/go /usr/lib/go-1.23/bin/go env GOROOT)
ln -sfn "$root" /usr/local/go
ln -sfn /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/
go version
