#!/usr/bin/env bash
# Unpacks a database server from Debian's packages below build/databases, for tests that run on a real one, and
# prints the folder. Nothing is installed, and no root is needed. The second call takes a few milliseconds.
#
#   scripts/test_databases.sh mariadb|postgresql
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly root engine=${1:-} work=$root/build/databases
readonly tree=$work/${engine:-none} log=$work/$engine.log

fail() {
    printf 'test databases: %s\n' "$*" >&2
    exit 1
}

# Runs a command with its output in the log; when it fails, tells the reason in a line.
quietly() {
    if "$@" >>"$log" 2>&1; then return; fi
    fail "\`$1 ${*: -2}\` failed: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log") (log: $log)"
}

# Prints the packages that make up the server; PostgreSQL's is named after its version.
server_packages() {
    if [[ $engine == mariadb ]]; then
        echo mariadb-server-core
    else
        apt-cache "${apt[@]}" depends postgresql | awk '$1 == "Depends:" && $2 ~ /^postgresql-[0-9]+$/ { print $2 }'
    fi
}

unpack() {
    local package packages
    rm -rf "$tree" "$tree.part" "$work/cache-$engine"
    mkdir -p "$work/lists/partial" "$work/cache-$engine/archives/partial" "$tree.part"
    : >"$log"
    # The machine's own sources and installed packages, but lists and archives of our own: the machine's lists may be
    # missing or old, and belong to root. Without the mode, apt takes an archive that does not answer for a warning.
    apt=(-q -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache-$engine" -o Debug::NoLocking=true
        -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" -o APT::Update::Error-Mode=any)
    quietly apt-get "${apt[@]}" update
    mapfile -t packages < <(server_packages)
    ((${#packages[@]})) || fail "apt knows no package of $engine"
    # Brings the libraries that the machine lacks, too, and installs none of it.
    quietly apt-get "${apt[@]}" install --yes --reinstall --download-only --no-install-recommends "${packages[@]}"
    for package in "$work/cache-$engine"/archives/*.deb; do
        quietly dpkg -x "$package" "$tree.part"
    done
    # Servers are run as another user where the tests are root's.
    chmod -R a+rX "$tree.part"
    mv "$tree.part" "$tree"
    rm -rf "$work/cache-$engine"
}

case $engine in
    mariadb | postgresql) ;;
    *) fail "the engine must be mariadb or postgresql. Received: ${engine:-none}" ;;
esac
if [[ ! -d $tree ]]; then
    for tool in apt-get dpkg flock; do
        command -v "$tool" >/dev/null || fail "tests on a real database need Debian's packages. Received: no $tool on this machine"
    done
    mkdir -p "$work"
    exec 9>"$work/lock"
    flock 9
    if [[ ! -d $tree ]]; then unpack; fi
fi
printf '%s\n' "$tree"
