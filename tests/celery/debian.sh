#!/bin/sh
# Installs Debian's redis-server and postgresql where they are missing. What their installation starts is stopped again:
# the tests run instances of their own.
set -eu

missing=""
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
test -n "$missing" || exit 0

if test "$(id -u)" -ne 0 || ! command -v apt-get >/dev/null; then
	echo "These Debian packages are missing:$missing. Install them as root (apt-get install$missing), then run this again." >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --no-install-recommends $missing
for service in $missing; do
	service "$service" stop || true # where none was started, for instance in a container
done
