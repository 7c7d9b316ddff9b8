"""One loaded version of a model: its session, its signatures, and how many requests hold it."""

import glob
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.data.errors import EnvironmentProblem
from headrace.serving.manifest import CheckSums, check_folder
from headrace.serving.row_mark import read_row_mark
from headrace.serving.session import ForbiddenOps, SessionModel, UnreadableModel

from .errors import Code, ServingError
from .integrity import Fingerprint, fingerprint
from .tensors import DTYPES, dtype_name, from_proto

__all__ = ["Argument", "Method", "Servable", "from_op_error", "load"]

Array = np.ndarray[Any, Any]

INIT_SIGNATURE = "__saved_model_init_op"


@dataclass(frozen=True)
class Argument:
    """One input or output of a signature.

    Attributes:
        alias: Public name.
        tensor: Name in the graph.
        number: TensorFlow's number of the type.
        dtype: numpy's type; object for strings.
        shape: Sizes, None for any; None where the rank is unknown.
    """

    alias: str
    tensor: str
    number: int
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    @property
    def batched(self) -> bool:
        """Whether the first dimension may have any size."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None


@dataclass(frozen=True)
class Method:
    """A signature, made ready for requests.

    Attributes:
        name: Name of the signature.
        method: The API's method name, such as "tensorflow/serving/predict".
        inputs: Arguments by alias, in alphabetical order.
        outputs: Results by alias, in alphabetical order.
        defaults: Values of inputs that a request may leave out.
        proto: The SignatureDef.
        independent: Whether each row is known to be answered by itself.
    """

    name: str
    method: str
    inputs: Mapping[str, Argument]
    outputs: Mapping[str, Argument]
    defaults: Mapping[str, Array]
    proto: Any = field(compare=False, repr=False)
    independent: bool = False

    @cached_property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """Alias and TensorFlow's short name of the type of every input."""
        return tuple((alias, dtype_name(argument.number)) for alias, argument in self.inputs.items())

    @cached_property
    def mergeable(self) -> bool:
        """Whether rows of several requests may be put into one run."""
        arguments = [*self.inputs.values(), *self.outputs.values()]
        return self.independent and bool(self.inputs) and all(argument.batched for argument in arguments)


class Servable:
    """One loaded version.

    Leases and `retire` belong to the event loop's thread; `run` may be called from any.

    Args:
        model: The loaded model.
        name: Name that it is served by.
        version: Its version number.
        path: Folder that it was loaded from.

    Attributes:
        methods: Signature name -> its arguments.
        leases: Requests that hold it.
    """

    def __init__(self, model: SessionModel, name: str, version: int, path: str) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.signature_defs: Mapping[str, Any] = model.signature_defs
        independent = read_row_mark(path)
        self.methods = {
            key: _method(key, proto, key in independent)
            for key, proto in model.signature_defs.items()
            if key != INIT_SIGNATURE
        }
        self.leases = 0
        self.batchers: dict[Any, Any] = {}
        self._model = model
        self._retire: Callable[[], Any] | None = None
        self._closed = False

    def run(self, method: Method, inputs: Sequence[Array], outputs: tuple[str, ...]) -> list[Array]:
        """Run one computation in this thread.

        Args:
            method: One of `methods`.
            inputs: Arrays of the arguments' types, in the order of `method.inputs`.
            outputs: Aliases of the results wanted, each once.

        Returns:
            The results in the order of `outputs`.

        Raises:
            ServingError: With TensorFlow's own code and text.
        """
        try:
            return self._model.call(method.name, inputs, outputs)
        except tf.errors.OpError as error:
            raise from_op_error(error) from error
        except MemoryError as error:
            raise ServingError(Code.RESOURCE_EXHAUSTED, "out of memory") from error
        except (RuntimeError, TypeError, ValueError) as error:
            raise ServingError(Code.INVALID_ARGUMENT, str(error) or type(error).__name__) from error

    def acquire(self) -> None:
        """Count one more request."""
        self.leases += 1

    def release(self) -> None:
        """Count one request less; a retired version without requests is closed."""
        self.leases -= 1
        if self._retire is not None and not self.leases:
            self._retire()

    def retire(self, close: Callable[[], Any] | None = None) -> None:
        """Take no more requests, and close as soon as the last one is done.

        Args:
            close: Closes it, possibly in another thread; `self.close` if not given.
        """
        self._retire = close or self.close
        if not self.leases:
            self._retire()

    @property
    def closed(self) -> bool:
        """Whether the session is freed."""
        return self._closed

    def close(self) -> None:
        """Free the session and its memory."""
        if not self._closed:
            self._closed = True
            self.batchers.clear()
            self._model.close()


def load(
    name: str,
    version: int,
    path: str,
    *,
    intra_op_threads: int = 1,
    inter_op_threads: int = 1,
    allow_ops: Collection[str] = (),
    check_sums: CheckSums = "present",
    before: Fingerprint | None = None,
) -> Servable:
    """Load one version as the C++ server does, and only if its folder is whole and stays the same.

    Args:
        name: Name that it is served by.
        version: Its version number.
        path: Folder of the version.
        intra_op_threads: Threads within an operator, >= 1; 0 lets TensorFlow choose.
        inter_op_threads: Operators that run at once, >= 1; 0 lets TensorFlow choose.
        allow_ops: Operators that a model must not hold, and are allowed all the same.
        check_sums: What is asked of the version's manifest.json.
        before: The folder as somebody has looked at it already; it must be the same still.

    Raises:
        ServingError: With the code and the text that the version's state shall show.
    """
    before = before or fingerprint(path)
    if not glob.glob(os.path.join(glob.escape(path), "saved_model.pb*")):
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}",
        )
    try:
        check_folder(path, check_sums)
    except EnvironmentProblem as error:
        raise ServingError(Code.DATA_LOSS, error.message) from error
    try:
        model = SessionModel.load(
            path,
            intra_op_threads=intra_op_threads,
            inter_op_threads=inter_op_threads,
            allow_ops=allow_ops,
        )
    except ForbiddenOps as error:
        raise ServingError(Code.PERMISSION_DENIED, f"{error.message}; {error.hint}") from error
    except UnreadableModel as error:
        code = error.__cause__.error_code if isinstance(error.__cause__, tf.errors.OpError) else Code.INTERNAL
        raise ServingError(Code(code), str(error)) from error
    if fingerprint(path) != before:
        model.close()
        raise ServingError(
            Code.ABORTED, f"a version folder must not change while it is loaded. Received: {path}"
        )
    try:
        return Servable(model, name, version, path)
    except BaseException:
        model.close()
        raise


def from_op_error(error: tf.errors.OpError) -> ServingError:
    """Return the answer for an error that TensorFlow raised, with its own code and text."""
    return ServingError(Code(error.error_code), str(error.message or error))


def _method(name: str, proto: Any, independent: bool) -> Method:
    return Method(
        name=name,
        method=proto.method_name,
        inputs={alias: _argument(alias, proto.inputs[alias]) for alias in sorted(proto.inputs)},
        outputs={alias: _argument(alias, proto.outputs[alias]) for alias in sorted(proto.outputs)},
        defaults={alias: from_proto(proto.defaults[alias]) for alias in sorted(proto.defaults)},
        proto=proto,
        independent=independent,
    )


def _argument(alias: str, info: Any) -> Argument:
    # A resource or variant cannot be sent: requests for it fail in the session, other signatures answer.
    dtype = DTYPES.get(info.dtype, np.dtype(object))
    shape = info.tensor_shape
    sizes = tuple(None if dim.size < 0 else int(dim.size) for dim in shape.dim)
    return Argument(alias, info.name, info.dtype, dtype, None if shape.unknown_rank else sizes)
