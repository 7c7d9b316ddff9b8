"""A container that copies the model repository out of a bucket: whole, checked versions only."""

from typing import Any
from urllib.parse import urlsplit

from .config import BucketModels
from .plan import Plan
from .server_files import MODELS_FOLDER

__all__ = ["SCRIPT", "bucket_container", "bucket_source", "bucket_volumes"]

_SECRETS = "/secrets"
_KEY_FILE = "key.json"

SCRIPT = """\
# Copies the latest versions of one model out of a bucket: SOURCE to FOLDER, by rclone.
# TensorFlow Serving reads folders whose name is a number. A version is put together in a hidden folder and
# renamed once every file that its manifest.json names is there with the right SHA-256, so a push that has not
# ended, or a download that broke off, is never served.
set -u
trap 'exit 0' TERM INT

say() { echo "$(date -u +%FT%TZ) $*"; }

numbers() { sed -n 's:^\\([0-9][0-9]*\\)/*$:\\1:p' | sort -n; }

fetch() {
  incoming="$FOLDER/.incoming"
  rclone sync "$SOURCE/$1" "$incoming" || return 1
  if [ ! -f "$incoming/manifest.json" ]; then
    say "version $1 has no manifest.json: not served (is its push still on the way?)"
    return 1
  fi
  awk -F'"' '$2 == "path" { path = $4 } $2 == "sha256" { print $4 "  " path }' \\
    "$incoming/manifest.json" > "$FOLDER/.sums"
  if ! (cd "$incoming" && sha256sum -c "$FOLDER/.sums" > /dev/null 2>&1); then
    say "version $1 is not complete: not served (is its push still on the way?)"
    return 1
  fi
  mv "$incoming" "$FOLDER/$1" && say "version $1 is there"
}

look() {
  listing=$(rclone lsf --dirs-only "$SOURCE") || return 1
  for version in $(echo "$listing" | numbers | tail -n "$KEEP"); do
    [ -d "$FOLDER/$version" ] || fetch "$version"
  done
  # What is left out is removed only when there are enough newer ones here.
  for version in $(ls "$FOLDER" | numbers | head -n "-$KEEP"); do
    mv "$FOLDER/$version" "$FOLDER/.old" && rm -rf "$FOLDER/.old" && say "version $version is removed"
  done
}

mkdir -p "$FOLDER"
while :; do
  look || say "the bucket could not be read; the next try is in $EVERY_S s"
  [ -z "${ONCE-}" ] || exit 0
  sleep "$EVERY_S" &
  wait $!
done
"""
"""POSIX shell, for the busybox of rclone's image."""


def bucket_source(plan: Plan, models: BucketModels) -> str:
    """Return the model's folder as rclone names it."""
    parts = urlsplit(models.uri)
    folder = f"{parts.netloc}{parts.path}".rstrip("/")
    return f"models:{folder}/{plan.model}"


def bucket_container(plan: Plan, security: dict[str, Any]) -> dict[str, Any]:
    """Return the container that copies.

    Args:
        plan: What is deployed, from a bucket.
        security: Its security context.
    """
    models = plan.bucket
    assert models is not None
    folder = f"{MODELS_FOLDER}/{plan.model}"
    environment = {
        "SOURCE": bucket_source(plan, models),
        "FOLDER": folder,
        "KEEP": str(plan.config.versions + 1),  # the one that is served while its successor loads
        "EVERY_S": str(models.every_s),
        **_rclone(models),
    }
    container: dict[str, Any] = {
        "name": "copy-models",
        "image": models.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["/bin/sh", "/copy/copy-models.sh"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {
            "requests": {"cpu": "250m", "memory": "256Mi"},
            "limits": {"cpu": "250m", "memory": "256Mi"},
        },
        "startupProbe": {
            "exec": {"command": ["/bin/sh", "-c", f"ls {folder} | grep -q '^[0-9]'"]},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": -(-plan.config.start_s // 2),
        },
        "securityContext": security,
        "volumeMounts": [
            {"name": "copy", "mountPath": "/copy", "readOnly": True},
            {"name": "models", "mountPath": MODELS_FOLDER},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    if models.secret and models.uri.startswith("s3://"):
        container["envFrom"] = [{"secretRef": {"name": models.secret}}]
    elif models.secret:
        container["volumeMounts"].append({"name": "secrets", "mountPath": _SECRETS, "readOnly": True})
    return container


def bucket_volumes(plan: Plan, models: BucketModels) -> list[dict[str, Any]]:
    """Return the volumes that the copies need."""
    volumes: list[dict[str, Any]] = [
        {"name": "models", "emptyDir": {"sizeLimit": models.size}},
        {"name": "copy", "configMap": {"name": f"{plan.name}-copy"}},
    ]
    if models.secret and models.uri.startswith("gs://"):
        volumes.append({"name": "secrets", "secret": {"secretName": models.secret}})
    return volumes


def _rclone(models: BucketModels) -> dict[str, str]:
    """Return rclone's settings of the remote `models`, as environment variables."""
    settings = {"RCLONE_CONFIG": "/dev/null", "HOME": "/tmp"}
    remote = "RCLONE_CONFIG_MODELS"
    if models.uri.startswith("gs://"):
        settings |= {f"{remote}_TYPE": "google cloud storage", f"{remote}_BUCKET_POLICY_ONLY": "true"}
        if models.secret:
            settings[f"{remote}_SERVICE_ACCOUNT_FILE"] = f"{_SECRETS}/{_KEY_FILE}"
        else:
            settings[f"{remote}_ENV_AUTH"] = "true"
        return settings
    settings |= {
        f"{remote}_TYPE": "s3",
        f"{remote}_PROVIDER": "Other" if models.endpoint else "AWS",
        f"{remote}_ENV_AUTH": "true",
        f"{remote}_NO_CHECK_BUCKET": "true",
    }
    if models.endpoint:
        settings[f"{remote}_ENDPOINT"] = models.endpoint
    if models.region:
        settings[f"{remote}_REGION"] = models.region
    return settings
