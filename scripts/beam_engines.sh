#!/usr/bin/env bash
# Fetches what `make test-distributed` runs on into build/beam: Flink, Beam's Flink job server and Prism. All are
# pinned by hash; registries are those that pip, Maven and Go are set up with. Safe to run again.
#
#   build/beam/jars/job-server.jar   `beam.job_server_jar`, for Flink 1.19
#   build/beam/flink/                Flink's jars: tests/distributed starts a cluster of them
#   build/beam/prism                 `beam.location`
set -euo pipefail

readonly PRISM=v2.77.0
readonly PRISM_SUM='h1:RsC61pHEvtySEHAURQyP/+CVOJm/hy5hewuG9JF0+Ow='

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
pins=$root/scripts/beam target=$root/build/beam
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
mkdir -p "$target"

fail() {
    printf 'beam_engines: %s\n' "$*" >&2
    exit 1
}

for program in java mvn go; do
    command -v "$program" >/dev/null || fail "needs $program (Java 11 or 17, Maven, Go 1.23 or later)."
done

job_server() {
    if (cd "$target/jars" 2>/dev/null && sha256sum --quiet --check "$pins/jars.sha256" 2>/dev/null); then return; fi
    rm -rf "$target/jars"
    mvn --quiet --batch-mode --file "$pins/pom.xml" -Dmaven.repo.local="$scratch/m2" \
        dependency:copy-dependencies -DoutputDirectory="$scratch/jars" || fail "Maven could not fetch the job server."
    (cd "$scratch/jars" && sha256sum --quiet --check "$pins/jars.sha256") || fail 'a jar is not the pinned one.'
    [[ $(find "$scratch/jars" -name '*.jar' | wc -l) == $(wc -l <"$pins/jars.sha256") ]] || fail 'there are unknown jars.'
    mv "$scratch/jars" "$target/jars"
}

flink() {
    if [[ -f $target/flink/.complete ]]; then return; fi
    rm -rf "$target/flink"
    "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1 || "$root/.venv/bin/python" -m ensurepip >/dev/null
    "$root/.venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
        --require-hashes --requirement "$pins/flink.txt" --dest "$scratch/sdist" || fail "pip could not fetch Flink."
    mkdir "$scratch/flink"
    tar --extract --gzip --file "$scratch"/sdist/apache*flink*.tar.gz --directory "$scratch/flink" \
        --strip-components=2 --wildcards '*/deps/lib/*' '*/deps/bin/*' '*/deps/plugins/*'
    touch "$scratch/flink/.complete"
    mv "$scratch/flink" "$target/flink"
}

prism() {
    if [[ -x $target/prism ]]; then return; fi
    export GOPATH=$scratch/go GOCACHE=$scratch/cache
    local sum
    sum=$(cd "$scratch" && go mod download -json "github.com/apache/beam/sdks/v2@$PRISM" | sed -n 's/.*"Sum": "\(.*\)".*/\1/p')
    [[ $sum == "$PRISM_SUM" ]] || fail "Prism's source is not the pinned one. Received: ${sum:-nothing}"
    (cd "$scratch" && go install -trimpath "github.com/apache/beam/sdks/v2/go/cmd/prism@$PRISM") || fail 'Go could not build Prism.'
    mv "$scratch/go/bin/prism" "$target/prism"
}

job_server
"$root/.venv/bin/python" "$pins/job_server.py" "$target/jars"
flink
prism
printf 'build/beam holds Flink, its job server and Prism\n'
