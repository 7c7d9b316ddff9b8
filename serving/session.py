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

from .allowed import INIT_SIGNATURE, ForbiddenOps, check_graph, feeds, initialisation

__all__ = ["ForbiddenOps", "SessionModel", "Signature", "TensorInfo", "UnreadableModel"]

_SERVE = "serve"


class UnreadableModel(HeadraceError):
    """The folder holds no SavedModel that a server could load."""


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
            allow_ops: Operators that the list refuses, or `Operator.attribute`, to let pass.

        Raises:
            UnreadableModel: If there is no such model, or it cannot be restored.
            ForbiddenOps: If it holds what a served model must not, unless that is allowed.
        """
        meta_graph = _read(path)
        check_graph(meta_graph, path, allow_ops)
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_threads,
            inter_op_parallelism_threads=inter_op_threads,
            use_per_session_threads=True,
        )
        session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            _restore(session, meta_graph, path)
        except (tf.errors.OpError, RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            session.close()
            raise UnreadableModel(
                f"a served model must load in a session. Received: {path} ({_first(error)})"
            ) from error
        signatures = {
            name: Signature(_infos(found.inputs), _infos(found.outputs), found.method_name)
            for name, found in meta_graph.signature_def.items()
            if name != INIT_SIGNATURE
        }
        return cls(session, signatures, meta_graph.signature_def)

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
    """Return the MetaGraphDef that is served."""
    message = saved_model_pb2.SavedModel()
    file = os.path.join(path, "saved_model.pb")
    try:
        with tf.io.gfile.GFile(file, "rb") as stream:
            message.ParseFromString(stream.read())
    except (tf.errors.OpError, DecodeError) as error:
        raise UnreadableModel(
            f"a model folder must hold saved_model.pb. Received: {path} ({_first(error)})"
        ) from error
    for meta_graph in message.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == {_SERVE}:
            return meta_graph
    tags = [sorted(meta_graph.meta_info_def.tags) for meta_graph in message.meta_graphs]
    raise UnreadableModel(
        f'a served model must have a graph with the tag "serve" alone. Received: {tags} ({path})'
    )


def _restore(session: Any, meta_graph: Any, path: str) -> None:
    """Load a graph as `tf.compat.v1.saved_model.loader.load` does, but the one that was checked.

    That function reads saved_model.pb once more, which may be another file by then.
    """
    with session.graph.as_default():
        saver = tf.compat.v1.train.import_meta_graph(meta_graph)
        if saver is not None:
            saver.restore(session, os.path.join(path, "variables", "variables"))
        target = initialisation(meta_graph)
        if target is not None:
            names = feeds(meta_graph).items()
            files = {tensor: os.path.join(path, "assets", name) for tensor, name in names}
            session.run(session.graph.as_graph_element(target), files)


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
