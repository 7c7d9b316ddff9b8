"""A path of this machine, wherever one is named: in a config, on the command line."""

import re
from typing import Annotated

from pydantic import AfterValidator

__all__ = ["LOCAL", "LocalPath", "RemoteFile", "check_local"]

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+:/|.*://", re.DOTALL)
"""A scheme of two letters or more; written with one slash it would make a folder of that name as well."""

_FETCHED = ("http", "https", "s3", "gs", "gcs", "az", "abfs", "file")


def check_local(path: str) -> str:
    """Return `path` unless it is a URI, which would be taken for the name of a folder.

    Raises:
        ValueError: If it is one.

    Example:
        >>> check_local("runs/today")
        'runs/today'
        >>> check_local("s3://bucket/runs")
        Traceback (most recent call last):
        ValueError: a path must be one of this machine: URIs are not supported here yet. Received: s3://bucket/runs
    """
    if _SCHEME.match(path):
        raise ValueError(
            f"a path must be one of this machine: URIs are not supported here yet. Received: {path}"
        )
    return path


def _check_fetched(path: str) -> str:
    scheme, found, _ = path.partition("://")
    if not found:
        return check_local(path)
    if scheme not in _FETCHED:
        raise ValueError(
            f"a file must be a path of this machine or a URI of {', '.join(_FETCHED)}. Received: {path}"
        )
    return path


LOCAL = AfterValidator(check_local)
"""What makes a text a path of this machine; it comes last, after what a JSON Schema should tell."""

LocalPath = Annotated[str, LOCAL]
"""Type of a config key that is a path: a file, a folder or a pattern of this machine."""

RemoteFile = Annotated[str, AfterValidator(_check_fetched)]
"""Type of a config key that is a file which is fetched first where it is a URI."""
