"""A SavedModel loaded as the C++ server loads it: a graph, restored in one session.

`tf.saved_model.load` restores objects and hides exports that a server cannot serve (variables written twice,
the saver restoring the unused copy). Only an inference in a session proves that TF Serving will answer.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from headrace.data.errors import HeadraceError

__all__ = [
    "FORBIDDEN_OPS",
    "PRINT_TO_FILE",
    "ForbiddenOps",
    "SessionModel",
    "Signature",
    "TensorInfo",
    "UnreadableModel",
    "read_ops",
]

PRINT_TO_FILE = "PrintV2 to a file"
"""Name given to a `PrintV2` that writes to a file; others write to the log."""

FORBIDDEN_OPS = frozenset(
    {
        "EagerPyFunc", "PyFunc", "PyFuncStateless",
        "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader", "FixedLengthRecordReaderV2",
        "MatchingFiles", "MatchingFilesDataset", "ReadFile",
        "TFRecordDataset", "TFRecordDatasetV2", "TFRecordReader", "TFRecordReaderV2",
        "TextLineDataset", "TextLineDatasetV2", "TextLineReader", "TextLineReaderV2",
        "WholeFileReader", "WholeFileReaderV2", "WriteFile",
        "CreateSummaryFileWriter", "DatasetToTFRecord", "SaveDataset", "SaveDatasetV2", "LoadDataset",
        "FileSystemSetConfiguration", "CalibrationStatisticsSaver", "DistributedSave", "DumpTensor",
        "CSVDataset", "CSVDatasetV2", "ExperimentalCSVDataset", "ExperimentalDatasetToTFRecord",
        "LMDBDataset", "LMDBReader", "ExperimentalLMDBDataset", "ExperimentalMatchingFilesDataset",
        "SqlDataset", "ExperimentalSqlDataset", "CreateSummaryDbWriter", "RecordInput",
        "SnapshotDataset", "SnapshotDatasetV2", "SnapshotDatasetReader", "SnapshotNestedDatasetReader",
        "SnapshotChunkDataset", "ListSnapshotChunksDataset",
        "GenerateVocabRemapping", "LoadAndRemapMatrix",
        "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount",
        "DebugNumericSummary", "DebugNumericSummaryV2", PRINT_TO_FILE,
    }
)  # fmt: skip
"""Operators that read or write files of the request's choosing, or run Python."""

_SERVE = "serve"
_INIT_SIGNATURE = "__saved_model_init_op"


class UnreadableModel(HeadraceError):
    """The folder holds no SavedModel that a server could load."""


class ForbiddenOps(HeadraceError):
    """The model holds operators that touch files or run Python."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a signature.

    Attributes:
        name: Name of the tensor in the graph, such as "serving_raw_age:0".
        dtype: TensorFlow's name of the type, such as "float32" or "string".
        shape: Sizes, None for any; None where the rank is unknown.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature by their public names, and the API's method name."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method: str = ""


def read_ops(path: str) -> frozenset[str]:
    """Return the names of all operators in the SavedModel at `path`, functions included.

    Raises:
        UnreadableModel: If there is none.
    """
    return _ops(_read(path))


class SessionModel:
    """A loaded model: signatures and a call for each.

    Calls are thread-safe. Use as a context manager, or call `close`.

    Args:
        session: A session with the model restored.
        signatures: Signature name -> inputs and outputs.
        signature_defs: Signature name -> SignatureDef as in the file, the initialisation's included.

    Attributes:
        signatures: As given.
        signature_defs: As given.
    """

    def __init__(
        self,
        session: Any,
        signatures: Mapping[str, Signature],
        signature_defs: Mapping[str, Any] | None = None,
    ) -> None:
        self.signatures = dict(signatures)
        self.signature_defs = dict(signature_defs or {})
        self._session = session
        self._callables: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._compiled: dict[tuple[str, tuple[str, ...]], Any] = {}

    @classmethod
    def load(
        cls,
        path: str,
        *,
        intra_op_threads: int = 1,
        inter_op_threads: int = 1,
        allow_ops: Collection[str] = (),
    ) -> "SessionModel":
        """Load the SavedModel at `path` with the tag "serve".

        Args:
            path: Folder that holds `saved_model.pb`.
            intra_op_threads: Threads within an operator, >= 1; 0 lets TensorFlow choose.
            inter_op_threads: Operators that run at once, >= 1; 0 lets TensorFlow choose.
            allow_ops: Operators of `FORBIDDEN_OPS` to let pass.

        Raises:
            UnreadableModel: If there is no such model, or it cannot be restored.
            ForbiddenOps: If it holds operators that are not allowed.
        """
        refused = sorted(_ops(_read(path)) & FORBIDDEN_OPS - set(allow_ops))
        if refused:
            raise ForbiddenOps(
                "a served model must not hold operators that touch files or run Python. "
                f"Received: {', '.join(refused)} ({path})"
            )
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
            use_per_session_threads=True,
        )
        session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with session.graph.as_default():
                graph = tf.compat.v1.saved_model.loader.load(session, [_SERVE], path)
        except (tf.errors.OpError, RuntimeError, ValueError, OSError) as error:
            session.close()
            raise UnreadableModel(
                f"a served model must load in a session. Received: {path} ({_first(error)})"
            ) from error
        signatures = {
            name: Signature(_infos(found.inputs), _infos(found.outputs), found.method_name)
            for name, found in graph.signature_def.items()
            if name != _INIT_SIGNATURE
        }
        return cls(session, signatures, graph.signature_def)

    def run(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] = ()
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Answer one request.

        Args:
            signature: Name of the signature.
            inputs: Value of every input of the signature, batch first.
            outputs: Names of the outputs wanted; none given means all.

        Returns:
            Output name -> array; strings as bytes.

        Raises:
            KeyError: If the signature, an input or an output does not exist or is left out.
        """
        spec = self.signatures[signature]
        wanted = tuple(outputs) or tuple(sorted(spec.outputs))
        call = self._callables.get((signature, wanted))
        if call is None:
            call = self._make_callable(signature, wanted)
        return dict(zip(wanted, call(*[inputs[name] for name in sorted(spec.inputs)]), strict=True))

    def call(
        self, signature: str, inputs: Sequence[np.ndarray[Any, Any]], outputs: tuple[str, ...]
    ) -> list[np.ndarray[Any, Any]]:
        """Answer one request in the caller's thread, without the checks and conversions of `run`.

        It costs a sixth of `run` on a small model: no fetch mapping, no feed conversion, no other thread.

        Args:
            signature: Name of the signature.
            inputs: Arrays of the signature's own types, in the alphabetical order of the inputs' names.
            outputs: Names of the outputs wanted, at least one.

        Returns:
            The arrays in the order of `outputs`; strings as bytes.
        """
        call = self._compiled.get((signature, outputs))
        if call is None:
            call = self._compile(signature, outputs)
        # A single string comes as bytes, a single number as an array without dimensions.
        return [np.asarray(found, object) if isinstance(found, bytes) else found for found in call(*inputs)]

    def _compile(self, signature: str, outputs: tuple[str, ...]) -> Any:
        spec = self.signatures[signature]
        options = config_pb2.CallableOptions()
        options.feed.extend(spec.inputs[name].name for name in sorted(spec.inputs))
        options.fetch.extend(spec.outputs[name].name for name in outputs)
        options.run_options.inter_op_thread_pool = -1  # the caller's thread
        # Two threads may both make one; either is good.
        call = self._session._make_callable_from_options(options)
        self._compiled[signature, outputs] = call
        return call

    def close(self) -> None:
        """Free the session and its memory."""
        self._callables.clear()
        self._compiled.clear()
        self._session.close()

    def __enter__(self) -> "SessionModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_callable(self, signature: str, wanted: tuple[str, ...]) -> Any:
        spec = self.signatures[signature]
        call = self._session.make_callable(
            [spec.outputs[name].name for name in wanted],
            feed_list=[spec.inputs[name].name for name in sorted(spec.inputs)],
        )
        # Two threads may both make one; either is good.
        self._callables[signature, wanted] = call
        return call


def _read(path: str) -> Any:
    message = saved_model_pb2.SavedModel()
    file = os.path.join(path, "saved_model.pb")
    try:
        with tf.io.gfile.GFile(file, "rb") as stream:
            message.ParseFromString(stream.read())
    except (tf.errors.OpError, DecodeError) as error:
        raise UnreadableModel(
            f"a model folder must hold saved_model.pb. Received: {path} ({_first(error)})"
        ) from error
    return message


def _ops(message: Any) -> frozenset[str]:
    graphs = [meta.graph_def for meta in message.meta_graphs]
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for graph in graphs for f in graph.library.function for node in f.node_def]
    return frozenset(map(_op, nodes))


def _op(node: Any) -> str:
    if node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:"):
        return PRINT_TO_FILE
    return str(node.op)


def _infos(found: Mapping[str, Any]) -> dict[str, TensorInfo]:
    return {
        name: TensorInfo(info.name, tf.as_dtype(info.dtype).name, _shape(info))
        for name, info in found.items()
    }


def _shape(info: Any) -> tuple[int | None, ...] | None:
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim)


def _first(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
