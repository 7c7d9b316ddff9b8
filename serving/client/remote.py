"""What the clients of a server share: the signature that they learn, and how a request is carried out."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np

from headrace.data.errors import ConfigError

from ..columns import InvalidRow
from ..manifest import CheckSums
from .address import Address, parse_url
from .failures import Code, RequestFailed, of_rows
from .labels import Labelled, Labels, Threshold, read_labels
from .predictions import Predictions
from .requests import Progress, RowOptions, TensorRequest, joined
from .retry import Retry, retried, retried_async
from .rows import held
from .security import ClientTls
from .signatures import ModelSignature, column_kinds

__all__ = ["Answer", "AsyncRemoteClient", "RemoteClient", "RemoteSettings"]

Array = np.ndarray[Any, Any]

_STALE = (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION)
"""What a server says to columns, or to a version, that it no longer has."""


@dataclass(frozen=True)
class Answer:
    """Outputs of one call.

    Attributes:
        outputs: Name -> tensor; strings are objects that hold bytes.
        version: Version that answered; None where the server does not tell.
    """

    outputs: dict[str, Array]
    version: int | None


class RemoteSettings(TypedDict, total=False):
    """Keyword arguments of `RemoteClient`, which says what they mean."""

    signature: str
    labels: str | Path | Mapping[str, Any] | None
    threshold: Threshold
    timeout_s: float
    retry: Retry | None
    tls: ClientTls | None
    batch_rows: int
    batch_bytes: int
    images: Collection[str]
    check_sums: CheckSums


def _may_be_stale(error: RequestFailed | InvalidRow) -> bool:
    """Tell whether columns or a version that have changed meanwhile may be why."""
    return isinstance(error, InvalidRow) or error.code in _STALE


class _Remote(Labelled):
    """Settings of a client, and what it has learned."""

    _schemes: tuple[str, ...] = ()

    def __init__(
        self,
        url: str,
        *,
        signature: str = "serving_raw",
        labels: str | Path | Mapping[str, Any] | None = None,
        threshold: Threshold = None,
        timeout_s: float = 30.0,
        retry: Retry | None = None,
        tls: ClientTls | None = None,
        batch_rows: int = 1024,
        batch_bytes: int = 16 << 20,
        images: Collection[str] = (),
        check_sums: CheckSums = "present",
    ) -> None:
        if timeout_s <= 0:
            raise ConfigError(f"`timeout_s` must be > 0. Received: {timeout_s}")
        self.address = parse_url(url, self._schemes)
        if tls is not None and not self.address.is_secure:
            raise ConfigError(
                f"certificates need a URL that begins with {self._schemes[-1]}://. Received: {url}"
            )
        self.timeout_s = timeout_s
        self.retry = retry or Retry()
        self._signature_name = signature
        self._tls = tls
        self._options = RowOptions(batch_rows, batch_bytes, tuple(images))
        found, source = (None, "") if labels is None else read_labels(labels, check_sums)
        self._labels = Labels(found, source, threshold)
        self._known: ModelSignature | None = None

    def _request(
        self, rows: Any, signature: ModelSignature, ignore_unknown: bool, complete: bool
    ) -> TensorRequest:
        options = replace(self._options, ignore_unknown=ignore_unknown, complete=complete)
        return TensorRequest(rows, signature, options)

    def _address_for(self, request: TensorRequest) -> Address:
        """Return where to send parts: the parts of one request go to one version."""
        return self.address.pinned(request.signature.version if request.is_cut else None)

    def _choose(self, signatures: Mapping[str, ModelSignature]) -> ModelSignature:
        if self._signature_name not in signatures:
            raise ConfigError(
                f"the model must have the signature for rows. Received: {self._signature_name!r} "
                f"({self.address.url} has {', '.join(sorted(signatures)) or 'none'})",
                "signature= names another one; `run` sends tensors as they are",
            )
        return signatures[self._signature_name]

    def _finish(self, parts: list[Answer], request: TensorRequest) -> Predictions:
        version = parts[0].version or self._address_for(request).version
        return self._labels.predictions(joined([part.outputs for part in parts]), version)


class RemoteClient(_Remote, ABC):
    """A client of a server, for threads: any number of them may call it at once.

    Args:
        url: URL of the model.
        signature: Signature for rows: `serving_raw`, or another with one column an input.
        labels: labels.json of the model: its content, file, or version folder. Without it classes and scores
            are the server's, the largest score decides, and multilabel models are refused.
        threshold: Goes before the one in `labels`: for two classes the score of the second from which it is
            chosen; for a multilabel model a number, or one a class.
        timeout_s: Seconds that one request may take, all tries included, > 0; a large `predict`
            makes several.
        retry: How often a request is tried again after UNAVAILABLE.
        tls: Certificates, where they are not the system's.
        batch_rows: Most rows of one request, >= 1.
        batch_bytes: Most bytes of tensors of one request that has more than one row.
        images: Columns of pictures whose texts are paths (paths as `pathlib.Path` always are).
        check_sums: What is asked of the manifest.json of the version that holds the labels: `present`: where
            there is one, the file must be as it says; `require`: there must be one; `off`: nothing.

    Raises:
        ConfigError: If the URL, a number or a file is not valid.
    """

    def predict(
        self,
        rows: Any,
        *,
        ignore_unknown: bool = False,
        complete: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:
        """Answer rows.

        Args:
            rows: Rows as mappings column -> value (None, NaN, "" and absent keys are missing); columns as a
                mapping to sequences; a pandas.DataFrame; a pyarrow Table; or, for a model that reads one
                column, its values: texts, pictures (paths, bytes, arrays), lists of numbers.
            ignore_unknown: Whether to pass over columns that the model does not read.
            complete: Whether every column must be given; otherwise an absent one is missing in every row.
            progress: Called with rows answered and all rows after every part.

        Returns:
            One result a row, in order. Requests of more than `batch_rows` are cut; all parts are answered by
            one version.

        Raises:
            InvalidRow: If a column is not known or missing, or a value does not fit.
            RequestFailed: If the server did not answer.
            ConfigError: If there is no row, or the signature or the labels do not fit.
        """
        rows = held(rows)
        for fresh in (False, True):
            signature = self._signature(fresh)
            try:
                request = self._request(rows, signature, ignore_unknown, complete)
                if request.is_cut and not fresh:  # its parts are answered by what is the latest version now
                    request = self._request(rows, self._signature(True), ignore_unknown, complete)
                return self._carried_out(request, progress)
            except (RequestFailed, InvalidRow) as error:
                if fresh or not _may_be_stale(error) or self._signature(True) == signature:
                    raise
        raise AssertionError("unreachable")

    def run(self, inputs: Mapping[str, Array], signature: str = "", outputs: Sequence[str] = ()) -> Answer:
        """Send tensors to a signature as they are.

        Args:
            inputs: Name -> array; strings as objects that hold bytes.
            signature: Name of the signature; empty for `serving_default`.
            outputs: Names of the outputs wanted; empty for all.

        Raises:
            RequestFailed: If the server did not answer.
        """
        return self._run(self.address, inputs, signature, outputs)

    def signatures(self) -> dict[str, ModelSignature]:
        """Return what the version that answers now asks for and gives."""
        return retried(self._ask_signatures, self.retry, self.timeout_s)

    def columns(self) -> dict[str, str]:
        """Return column -> `int`, `float`, `string` (pictures, too) or `floats`."""
        return column_kinds(self._signature(False))

    def _signature(self, fresh: bool) -> ModelSignature:
        if fresh or self._known is None:
            self._known = self._choose(self.signatures())
        return self._known

    def _carried_out(self, request: TensorRequest, progress: Progress | None) -> Predictions:
        address, parts, done = self._address_for(request), [], 0
        for rows, tensors in request.parts():
            with of_rows(done, rows):
                parts.append(self._run(address, tensors, request.signature.name, ()))
            done += rows
            if progress is not None:
                progress(done, request.total)
        return self._finish(parts, request)

    def _run(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Answer:
        ask = self._prepared(address, inputs, signature, outputs)
        return retried(ask, self.retry, self.timeout_s)

    @abstractmethod
    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Any:
        """Return what sends a request, given the seconds that are left, and returns its Answer."""

    @abstractmethod
    def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        """Ask the server once for the signatures."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRemoteClient(_Remote, ABC):
    """A client of a server, for an event loop. Arguments and results are those of the other face."""

    async def predict(
        self,
        rows: Any,
        *,
        ignore_unknown: bool = False,
        complete: bool = False,
        progress: Progress | None = None,
    ) -> Predictions:
        """Answer rows, as `RemoteClient.predict` does."""
        rows = held(rows)
        for fresh in (False, True):
            signature = await self._signature(fresh)
            try:
                request = self._request(rows, signature, ignore_unknown, complete)
                if request.is_cut and not fresh:  # its parts are answered by what is the latest version now
                    request = self._request(rows, await self._signature(True), ignore_unknown, complete)
                return await self._carried_out(request, progress)
            except (RequestFailed, InvalidRow) as error:
                if fresh or not _may_be_stale(error) or await self._signature(True) == signature:
                    raise
        raise AssertionError("unreachable")

    async def run(
        self, inputs: Mapping[str, Array], signature: str = "", outputs: Sequence[str] = ()
    ) -> Answer:
        """Send tensors to a signature as they are, as `RemoteClient.run` does."""
        return await self._run(self.address, inputs, signature, outputs)

    async def signatures(self) -> dict[str, ModelSignature]:
        """Return what the version that answers now asks for and gives."""
        return await retried_async(self._ask_signatures, self.retry, self.timeout_s)

    async def columns(self) -> dict[str, str]:
        """Return column -> `int`, `float`, `string` (pictures, too) or `floats`."""
        return column_kinds(await self._signature(False))

    async def _signature(self, fresh: bool) -> ModelSignature:
        if fresh or self._known is None:
            self._known = self._choose(await self.signatures())
        return self._known

    async def _carried_out(self, request: TensorRequest, progress: Progress | None) -> Predictions:
        address, parts, done = self._address_for(request), [], 0
        for rows, tensors in request.parts():
            with of_rows(done, rows):
                parts.append(await self._run(address, tensors, request.signature.name, ()))
            done += rows
            if progress is not None:
                progress(done, request.total)
        return self._finish(parts, request)

    async def _run(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Answer:
        ask = self._prepared(address, inputs, signature, outputs)
        return await retried_async(ask, self.retry, self.timeout_s)

    @abstractmethod
    def _prepared(
        self, address: Address, inputs: Mapping[str, Array], signature: str, outputs: Sequence[str]
    ) -> Any:
        """Return what sends a request, given the seconds that are left, and returns its Answer."""

    @abstractmethod
    async def _ask_signatures(self, left_s: float) -> dict[str, ModelSignature]:
        """Ask the server once for the signatures."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
