#!/bin/bash
# go.sh VERSION installs make and a Go on Debian, as root: the Go of Debian (of
# its backports on Debian 12) fetches the one that is asked for, which the
# checksum database vouches for.
set -euo pipefail
version=$1
# shellcheck source=/dev/null
. /etc/os-release
export DEBIAN_FRONTEND=noninteractive
if [ "$VERSION_CODENAME" = bookworm ]; then
	echo "deb http://deb.debian.org/debian bookworm-backports main" >/etc/apt/sources.list.d/backports.list
	packages=(golang-1.23-go/bookworm-backports golang-1.23-src/bookworm-backports)
	go=/usr/lib/go-1.23/bin/go
else
	packages=(golang-go)
	go=/usr/bin/go
fi
apt-get update -q
apt-get install -q -y --no-install-recommends make ca-certificates "${packages[@]}"
cd /
root=$(GOTOOLCHAIN="go$version" GOMODCACHE=/opt/go $go env GOROOT)
ln -sfn "$root" /usr/local/go
ln -sfn /usr/local/go/bin/go /usr/local/go/bin/gofmt /usr/local/bin/
go version
