"""Rows on disk until all have been seen, since the last one may tell the split of the first."""

import os
from collections.abc import Iterator
from types import TracebackType

import pyarrow as pa

__all__ = ["Pending"]

_FILE_BYTES = 128 << 20


class Pending:
    """Rows in the order of arrival, in files that are deleted one by one as they are read.

    Args:
        folder: For the files.
        schema: Of the batches.
    """

    def __init__(self, folder: str, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema
        self._paths: list[str] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._room = 0

    def __enter__(self) -> "Pending":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        except (OSError, pa.ArrowException):
            # A full disk makes the end marker fail too; the first error is the one to hear about.
            if kind is None:
                raise

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows."""
        if self._writer is None or self._room <= 0:
            self._end()
            self._paths.append(os.path.join(self._folder, f"pending-{len(self._paths):05d}.arrow"))
            options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
            self._writer = pa.ipc.new_stream(self._paths[-1], self._schema, options=options)
            self._room = _FILE_BYTES
        self._writer.write_batch(batch)
        self._room -= batch.nbytes

    def read(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, once all were added."""
        for path in self._paths:
            with pa.ipc.open_stream(pa.OSFile(path)) as reader:
                yield from reader
            os.remove(path)

    def _end(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
