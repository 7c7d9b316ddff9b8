"""Predict rows of a file with a served or pushed model."""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from headrace.data.errors import ConfigError
from headrace.serving.manifest import CheckSums

__all__ = ["PredictOptions", "predict_command", "predict_file"]

_PROGRESS_S = 2.0
_BLOCK_ROWS = 8192
_SHORT_DIGITS = 6
_NO_PICTURE = "a picture must be a JPEG or PNG file"
"""What a model says of bytes that are no picture, as `headrace.components.features` has it."""
_NAME_PATHS = "if a column holds paths of pictures, name it by --images COLUMN"

Say = Callable[[str], None]


@dataclass(frozen=True)
class PredictOptions:
    """What `headrace predict` is told.

    Attributes:
        model: URL of a served model, or folder of a pushed one.
        input: File of rows; - for JSON lines on stdin.
        output: File of results; - for JSON lines on stdout.
        labels: labels.json, or the version folder that holds it; empty for the model's own.
        threshold: Goes before the one in the labels; None for that.
        signature: Signature for rows.
        keep: Columns that are carried into the output.
        images: Columns of pictures whose texts are paths.
        ignore_unknown: Whether to pass over columns that the model does not read.
        batch_rows: Most rows of one request, >= 1.
        timeout_s: Seconds that one request may take.
        authority: File of the server's certificate authority; empty for the system's.
        certificate: File of the client's certificate; empty for none.
        key: File of its key.
        allow_ops: Operators that a SavedModel may hold at the user's own risk, A,B.
        check_sums: What is asked of the manifest.json of model and labels: present, require or off.
        digits: Decimal places of scores in JSON; None for all.
    """

    model: str
    input: str = "-"
    output: str = "-"
    labels: str = ""
    threshold: float | None = None
    signature: str = "serving_raw"
    keep: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    ignore_unknown: bool = False
    batch_rows: int = 1024
    timeout_s: float = 30.0
    authority: str = ""
    certificate: str = ""
    key: str = ""
    allow_ops: str = ""
    check_sums: CheckSums = "present"
    digits: int | None = None


def predict_command(
    short: tuple[str | None, str | None],
    named: tuple[str | None, str | None],
    rest: Mapping[str, Any],
    say: Say,
) -> int:
    """Predict as a command line says.

    Args:
        short: Model and rows as arguments.
        named: Model and rows as options.
        rest: Other fields of `PredictOptions`.
        say: Told the progress and what a user should know.

    Raises:
        ConfigError: If the model is not named, or twice.
    """
    for both, option in zip(zip(short, named, strict=True), ("--model", "--input"), strict=True):
        if all(both):
            raise ConfigError(f"`{option}` must be given once. Received: {both[0]} and {both[1]}")
    if named[0] and short[0]:
        raise ConfigError(f"rows must be given by --input. Received: {short[0]}")
    model, source = named[0] or short[0], named[1] or short[1]
    if not model:
        raise ConfigError("`--model` must name a model. Received: none", "headrace predict --model URL|DIR")
    digits = _SHORT_DIGITS if short[0] else None
    return predict_file(PredictOptions(model, source or "-", digits=digits, **rest), say)


def predict_file(options: PredictOptions, say: Say) -> int:
    """Predict the rows of a file, block by block.

    Args:
        options: What is predicted, by what, to where.
        say: Told the progress and what a user should know.

    Returns:
        Number of rows.

    Raises:
        ConfigError: If a path, a URL, an option or the model's outputs do not fit.
        InvalidRow: If a row does not fit; it is named by its line.
        RequestFailed: If a server did not answer.
        EnvironmentProblem: If the output cannot be written.
    """
    from headrace.serving.client.result_files import result_format, written
    from headrace.serving.client.row_files import row_format

    row_format(options.input)
    result_format(options.output)
    if options.input == "-" and sys.stdin.isatty():
        say("reading rows from this terminal: one JSON object a line, Ctrl-D at the end")
    with _client(options) as client, written(options.output, options.digits) as write:
        return _predict_all(client, options, write, say)


def _predict_all(client: Any, options: PredictOptions, write: Any, say: Say) -> int:
    from headrace.serving.client.date_columns import check_dates
    from headrace.serving.client.failures import RequestFailed
    from headrace.serving.client.row_files import ReadOptions, read_blocks
    from headrace.serving.columns import InvalidRow

    reading = ReadOptions(
        _BLOCK_ROWS,
        options.keep,
        options.images,
        options.ignore_unknown,
        lambda text: say(f"note: {text}"),
        client.csv,
    )
    progress = _Progress(say)
    version: int | None = None
    rule = ""
    for block in read_blocks(options.input, client.columns(), reading):
        try:
            check_dates(block.rows, client.dates)
            with nullcontext() if progress.rows else _without_notices():  # LiteRT's come with the first call
                found = client.predict(
                    block.rows, ignore_unknown=options.ignore_unknown, progress=progress.within(block.total)
                )
        except InvalidRow as error:
            found_at = error.moved(0, block.place)
            if _NO_PICTURE in error.text and not options.images:
                found_at.hint = _NAME_PATHS
            raise found_at from error.__cause__
        except RequestFailed as error:
            error.hint = _refusal_hint(error, block.place, options)
            raise
        write(found, block.kept)
        if version is not None and found.version not in (version, None):
            say(f"note: from row {progress.rows + 1:,} on version {found.version} answered, before {version}")
        version, rule = found.version or version, found.decided_by
        progress.rows += block.count
    if not progress.rows:
        source = "stdin" if options.input == "-" else options.input
        raise ConfigError(
            f"rows must be at least one. Received: none ({source})",
            "--input names a file of rows" if options.input == "-" else "",
        )
    if "since" in rule or options.output != "-":
        by = f", version {version}" if version is not None else ""
        say(f"{progress.rows:,} rows in {progress.seconds:.1f} s{by}; decided by {rule}")
    return progress.rows


def _refusal_hint(error: Any, place: Callable[[int], str], options: PredictOptions) -> str:
    """Return what a user can do about rows that a server refused; empty where it did not judge them."""
    if error.code.name != "INVALID_ARGUMENT" or error.rows is None:
        return ""
    first, count = error.rows
    hints = [f"the request held {place(first)}"]
    if count > 1:
        hints = [f"{hints[0]} to {place(first + count - 1)}; --batch-rows 1 finds the row"]
    if _NO_PICTURE in error.text and not options.images:
        hints.insert(0, _NAME_PATHS)
    return "; ".join(hints)


def _client(options: PredictOptions) -> Any:
    from headrace.serving.client.address import is_url
    from headrace.serving.client.connecting import connect, is_saved_model

    settings: dict[str, Any] = {
        "labels": options.labels or None,
        "threshold": options.threshold,
        "batch_rows": options.batch_rows,
        "check_sums": options.check_sums,
    }
    files = (options.authority, options.certificate, options.key)
    allowed = [op.strip() for op in options.allow_ops.split(",") if op.strip()]
    if allowed and not is_saved_model(options.model):
        raise ConfigError(f"`--allow-ops` needs the folder of a SavedModel. Received: {options.model}")
    if is_url(options.model):
        settings |= {
            "timeout_s": options.timeout_s, "images": options.images, "signature": options.signature,
        }  # fmt: skip
        if any(files):
            from headrace.serving.client.security import ClientTls

            settings["tls"] = ClientTls(*files)
    elif any(files):
        raise ConfigError(f"certificates need a URL. Received: a model in {options.model}")
    elif is_saved_model(options.model):
        from headrace.serving.server.quiet import import_quietly

        import_quietly()
        settings |= {"signature": options.signature, "allow_ops": allowed}
    return connect(options.model, **settings)


class _Progress:
    """Rows answered so far, told every few seconds."""

    def __init__(self, say: Say) -> None:
        self.rows = 0
        self._say = say
        self._start = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def within(self, total: int | None) -> Callable[[int, int], None]:
        """Return what a client tells of one block, of a file with `total` rows where that is known."""

        def tell(done: int, _: int) -> None:
            now = time.monotonic()
            if now - self._told < _PROGRESS_S:
                return
            self._told = now
            rows = self.rows + done
            of = f" of {total:,}" if total else ""
            self._say(f"{rows:,}{of} rows, {rows / max(self.seconds, 1e-3):,.0f} a second")

        return tell


@contextmanager
def _without_notices() -> Iterator[None]:
    """Drop LiteRT's INFO lines; whatever else is written to stderr comes through afterwards.

    Its C++ logger heeds no environment variable and writes to the file descriptor, past `sys.stderr`.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)
