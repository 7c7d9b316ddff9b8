"""Delimited text, streamed through Arrow."""

from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.csv as arrow_csv

from ..columns import RawColumn
from ..config import DataConfig
from ..row_hashes import HashedColumns, hash_batch
from .block import Block
from .csv_faults import explain, line_of_row
from .files import delimiter_of
from .values import clean

__all__ = ["BLOCK_BYTES", "convert_options", "parse_options", "read_csv"]

BLOCK_BYTES = 8 << 20
"""Text parsed at a time; a row must fit into it."""


def read_csv(
    path: str, data: DataConfig, columns: Sequence[RawColumn], hashed: HashedColumns | None = None
) -> Iterator[Block]:
    """Yield the rows of one file in blocks of about 8 MiB of text.

    Args:
        path: The file; .gz is decompressed on the way.
        data: The `data` section.
        columns: Columns to read; each must be in the header.
        hashed: Columns to hash the rows by; one that is not in the header is missing in every row.

    Raises:
        DataRejected: If the content cannot be read; the message holds row, line and value.
    """
    row = 1
    names = [column.name for column in columns]
    beyond = hashed.beyond(columns) if hashed else ()
    delimiter = delimiter_of(path, data)
    line_of = partial(line_of_row, path, delimiter, data.csv.encoding)
    try:
        with pa.input_stream(path, compression="gzip" if path.endswith(".gz") else None) as stream:
            reader = arrow_csv.open_csv(
                stream,
                read_options=arrow_csv.ReadOptions(block_size=BLOCK_BYTES, encoding=data.csv.encoding),
                parse_options=parse_options(delimiter),
                convert_options=convert_options(data, [*columns, *beyond]),
            )
            for batch in reader:
                if batch.num_rows:
                    hashes = hash_batch(batch, hashed, columns, path)
                    yield clean(Block(path, row, batch.select(names), line_of, hashes=hashes), columns)
                    row += batch.num_rows
    except (pa.ArrowException, UnicodeError, EOFError, OSError) as error:
        raise explain(error, path, data, columns) from error


def parse_options(delimiter: str) -> arrow_csv.ParseOptions:
    """Return how lines are cut into fields: RFC 4180, so a quoted field may hold line breaks."""
    return arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)


def convert_options(data: DataConfig, columns: Sequence[RawColumn]) -> arrow_csv.ConvertOptions:
    """Return how fields become values.

    `int` is read as float64, since whole numbers with missing values are often written as 3.0.
    """
    return arrow_csv.ConvertOptions(
        include_columns=[column.name for column in columns],
        column_types={
            c.name: pa.string() if c.type in ("string", "image") else pa.float64() for c in columns
        },
        include_missing_columns=True,  # a hashed column of another file; what features read is checked before
        null_values=list(data.csv.null_values),
        strings_can_be_null=True,
    )
