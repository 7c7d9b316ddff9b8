"""A SavedModel in this process, behind the interface of the other clients. It needs TensorFlow."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.data.errors import ConfigError

from ..columns import InvalidRow
from ..manifest import CheckSums, check_folder
from .folders import version_folder
from .labels import Labelled, Labels, Threshold, read_labels
from .predictions import Predictions
from .requests import Progress, RowOptions, TensorRequest, joined
from .signatures import ModelSignature, Tensor, column_kinds

__all__ = ["SavedModelClient"]

_PREFIX = "Graph execution error:"


class SavedModelClient(Labelled):
    """Answers rows by a SavedModel, loaded as TensorFlow Serving loads it, without a server.

    Args:
        path: A version folder, or the folder of a model's versions: then the highest one.
        signature: Signature for rows.
        labels: labels.json that goes before the version's own.
        threshold: Goes before the one in the labels.
        batch_rows: Rows that are worked on at once, >= 1.
        allow_ops: Operators to let pass that a model must not hold, at one's own risk (docs/security.md).
        check_sums: What is asked of the version's manifest.json: `present`: where there is one, every file
            must be as it says; `require`: there must be one; `off`: nothing.

    Raises:
        ConfigError: If there is no model, or it lacks the signature.
        EnvironmentProblem: If a file is not as the manifest says.
        ForbiddenOps: If it holds operators that could leave its folder, and are not allowed.

    Example:
        with SavedModelClient("push/serving/flights") as client:
            client.predict([{"carrier": "UA", "distance": 1400.0}])[0].label
    """

    def __init__(
        self,
        path: str | Path,
        *,
        signature: str = "serving_raw",
        labels: str | Path | Mapping[str, Any] | None = None,
        threshold: Threshold = None,
        batch_rows: int = 1024,
        allow_ops: Collection[str] = (),
        check_sums: CheckSums = "present",
    ) -> None:
        from ..session import SessionModel

        folder = version_folder(path, "saved_model.pb")
        check_folder(folder, check_sums)
        own = folder / "assets.extra" / "labels.json"
        found, source = (None, "")
        if labels is not None or own.is_file():
            found, source = read_labels(own if labels is None else labels, check_sums)
        self.version = int(folder.name) if folder.name.isdecimal() else None
        self._labels = Labels(found, source, threshold)
        self._options = RowOptions(batch_rows)
        self._model = SessionModel.load(str(folder), allow_ops=allow_ops)
        if signature not in self._model.signatures:
            self._model.close()
            raise ConfigError(
                f"the model must have the signature for rows. Received: {signature!r} "
                f"({folder} has {', '.join(sorted(self._model.signatures)) or 'none'})"
            )
        self._signature = _described(self._model.signatures[signature], signature, self.version or 0)

    def columns(self) -> dict[str, str]:
        """Return column -> `int`, `float`, `string` or `floats`."""
        return column_kinds(self._signature)

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
        options = RowOptions(self._options.batch_rows, ignore_unknown=ignore_unknown, complete=complete)
        request = TensorRequest(rows, self._signature, options)
        parts, done = [], 0
        for size, tensors in request.parts():
            parts.append(self._answered(tensors, size, done))
            done += size
            if progress is not None:
                progress(done, request.total)
        return self._labels.predictions(joined(parts), self.version)

    def _answered(self, tensors: Mapping[str, Any], size: int, first: int) -> dict[str, Any]:
        """Return what the model answers to `size` rows, the first of which is row `first` of all."""
        from tensorflow.errors import InvalidArgumentError

        try:
            return self._model.run(self._signature.name, tensors)
        except InvalidArgumentError as error:
            start, end = 0, size  # of rows among which one is refused: the first such row is sought
            while end - start > 1:
                middle = (start + end) // 2
                half = {name: values[start:middle] for name, values in tensors.items()}
                try:
                    self._model.run(self._signature.name, half)
                    start = middle
                except InvalidArgumentError:
                    end = middle
            reason = str(error.message).removeprefix(_PREFIX).strip().split("\n")[0]
            raise InvalidRow(
                f"a row must be one that the model can read. Received: {reason}", row=first + start
            ) from error

    def close(self) -> None:
        """Release the model."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _described(signature: Any, name: str, version: int) -> ModelSignature:
    def tensors(parts: Mapping[str, Any]) -> dict[str, Tensor]:
        return {
            alias: Tensor("object" if info.dtype == "string" else info.dtype, info.shape)
            for alias, info in parts.items()
        }

    return ModelSignature(name, tensors(signature.inputs), tensors(signature.outputs), version)
