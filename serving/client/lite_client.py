"""A TF Lite bundle in this process, behind the interface of the other clients."""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..columns import InvalidRow
from ..lite import LiteModel
from ..manifest import CheckSums, check_folder
from .folders import version_folder
from .labels import Labelled, Labels, Threshold, read_labels
from .predictions import Predictions
from .requests import Progress, RowOptions, RowRequest, joined

__all__ = ["LiteClient"]


class LiteClient(Labelled):
    """Answers rows by LiteRT and numpy, without TensorFlow and without a server.

    Threads may share it; their calls wait for each other. A text in a column of pictures is the path of a
    file: rows from strangers should hold bytes or `{"b64": text}` there.

    Args:
        path: A bundle, or the folder of its versions: then the highest one.
        labels: labels.json that goes before the bundle's own.
        threshold: Goes before the one in the labels.
        threads: Threads of one call, >= 1.
        batch_rows: Rows that are worked on at once, >= 1.
        check_sums: What is asked of the bundle's manifest.json: `present`: where there is one, every file
            must be as it says; `require`: there must be one; `off`: nothing.

    Raises:
        ConfigError: If there is no bundle, or it cannot be read.
        EnvironmentProblem: If a file is not as the manifest says.

    Example:
        client = LiteClient("push/lite/flights")
        client.predict([{"carrier": "UA", "distance": 1400.0}])[0].label
    """

    def __init__(
        self,
        path: str | Path,
        *,
        labels: str | Path | Mapping[str, Any] | None = None,
        threshold: Threshold = None,
        threads: int = 1,
        batch_rows: int = 1024,
        check_sums: CheckSums = "present",
    ) -> None:
        folder = version_folder(path, "model.tflite")
        check_folder(folder, check_sums)
        self.version = int(folder.name) if folder.name.isdecimal() else None
        self._model = LiteModel.load(folder, threads)
        found, source = self._model.label, "labels.json"
        if labels is not None:
            found, source = read_labels(labels, check_sums)
        self._labels = Labels(found, source, threshold)
        self._options = RowOptions(batch_rows)
        self._lock = threading.Lock()

    def columns(self) -> dict[str, str]:
        """Return column -> `int`, `float`, `string`, `floats` or `image`."""
        return dict(self._model.preprocessor.columns)

    def predict(
        self,
        rows: Any,
        *,
        ignore_unknown: bool = False,
        complete: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:
        """Answer rows, as `RemoteClient.predict` does.

        Raises:
            InvalidRow: If a column is not known or missing, or a value does not fit.
            ConfigError: If there is no row, or the labels do not fit.
        """
        batch_rows = self._options.batch_rows
        options = RowOptions(batch_rows, ignore_unknown=ignore_unknown, complete=complete)
        request = RowRequest(rows, self.columns(), options)
        parts: list[dict[str, np.ndarray[Any, Any]]] = []
        done = 0
        for start, part, _ in request.parts():
            try:
                with self._lock:
                    parts.append(self._model.predict(part, ignore_unknown))
            except InvalidRow as error:
                raise error.moved(start) from error.__cause__
            done += len(next(iter(parts[-1].values())))
            if progress is not None:
                progress(done, request.total)
        return self._labels.predictions(joined(parts), self.version)

    def close(self) -> None:
        """Do nothing: it holds no connection."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
