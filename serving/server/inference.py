"""What a request may ask of a signature, with TensorFlow Serving's own words for what it may not."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import Code, ServingError
from .model_spec import ModelSpec
from .servable import Argument, Method, Servable
from .tensors import DTYPES, TensorError, dtype_name

__all__ = [
    "CLASSIFY",
    "PREDICT",
    "REGRESS",
    "Task",
    "checked_inputs",
    "checked_outputs",
    "classify_task",
    "example_array",
    "multi_tasks",
    "predict_method",
    "regress_task",
]

Array = np.ndarray[Any, Any]

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

_NUMBERS = {dtype: number for number, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Task:
    """A classification or regression.

    Attributes:
        spec: As asked for.
        method: The signature.
        outputs: Aliases of its results.
        check: Raises if the results (by alias) of so many examples have another shape or type than the API's.
    """

    spec: ModelSpec
    method: Method
    outputs: tuple[str, ...]
    check: Callable[[int, Mapping[str, Array]], None]


def predict_method(servable: Servable, spec: ModelSpec, check_method_name: bool = False) -> Method:
    """Return the signature of a predict request.

    Raises:
        ServingError: FAILED_PRECONDITION if there is none of that name.
    """
    method = servable.methods.get(spec.signature_name)
    if method is None:
        raise ServingError(
            Code.FAILED_PRECONDITION, f'Serving signature key "{spec.signature_name}" not found.'
        )
    if check_method_name and method.method not in (PREDICT, CLASSIFY, REGRESS):
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}. "
            f"Was: {method.method}",
        )
    return method


def checked_inputs(method: Method, inputs: Mapping[str, Array]) -> list[Array]:
    """Return the arrays of a predict request in the signature's order, defaults filled in.

    Raises:
        ServingError: INVALID_ARGUMENT, if names or types are not the signature's.
    """
    _check_count(method, inputs)
    arrays = []
    for index, (alias, argument) in enumerate(method.inputs.items()):
        if alias in inputs:
            arrays.append(_typed(index, argument, _fetched(inputs, alias)))
        elif alias in method.defaults:
            arrays.append(method.defaults[alias])
        else:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Signature input alias: {alias}(feed name: {argument.tensor}) not found in request and no "
                "default value provided. Inputs expected to be in the request "
                f"{{{_listed(inputs)}}}, or default input alias set: {_listed(method.defaults)}",
            )
    unknown = set(inputs) - set(method.inputs)
    if unknown:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Inputs contains invalid name. Used request inputs: {_listed(set(inputs) - unknown)}, "
            f"request input: {_listed(inputs)}",
        )
    return arrays


def checked_outputs(method: Method, outputs: Sequence[str]) -> tuple[str, ...]:
    """Return the aliases that a request's filter asks for; all of the signature's if it is empty.

    Raises:
        ServingError: INVALID_ARGUMENT, if one is unknown or named twice.
    """
    if not outputs:
        return tuple(method.outputs)
    seen: set[str] = set()
    for alias in outputs:
        if alias not in method.outputs:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_listed(method.outputs)}}}.",
            )
        if alias in seen:
            raise ServingError(Code.INVALID_ARGUMENT, f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return tuple(sorted(seen))


def classify_task(servable: Servable, spec: ModelSpec, check_method_name: bool = False) -> Task:
    """Return the task of a classify request."""
    method = _named(servable, spec, "No signature was found with the name: ")
    if check_method_name and method.method != CLASSIFY:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Expected classification signature method_name to be {CLASSIFY}. Was: {method.method}",
        )
    return _classification(spec, method)


def regress_task(servable: Servable, spec: ModelSpec, check_method_name: bool = False) -> Task:
    """Return the task of a regress request."""
    method = _named(servable, spec, "No signature was found with the name: ")
    if check_method_name and method.method != REGRESS:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Expected regression signature method_name to be {REGRESS}. Was: {method.method}",
        )
    return _regression(spec, method)


def multi_tasks(
    servable: Servable, wanted: Sequence[tuple[ModelSpec, str]], check_method_name: bool = False
) -> list[Task]:
    """Return the tasks of a multi-inference request: signatures of one model, each with its own input."""
    tasks: list[Task] = []
    seen: set[str] = set()
    for spec, method_name in wanted:
        if not spec.name:
            raise ServingError(Code.INVALID_ARGUMENT, "Found ModelSpec with an empty model name.")
        if spec.name != wanted[0][0].name:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            )
        if spec.signature_name in seen:
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Duplicate evaluation of signature: {spec.signature_name}"
            )
        seen.add(spec.signature_name)
        _named(servable, spec, "Requested signature not found in model graph: ")
        if method_name == CLASSIFY:
            task = classify_task(servable, spec, check_method_name)
        elif method_name == REGRESS:
            task = regress_task(servable, spec, check_method_name)
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method_name}")
        tasks.append(task)
    return tasks


def example_array(examples: Sequence[bytes]) -> Array:
    """Return serialized examples as a tensor of strings, [n].

    Raises:
        ServingError: INVALID_ARGUMENT, if there are none.
    """
    if not examples:
        raise ServingError(Code.INVALID_ARGUMENT, "Input is empty.")
    array = np.empty(len(examples), object)
    array[:] = examples
    return array


def _check_count(method: Method, inputs: Mapping[str, Array]) -> None:
    have, want = len(inputs), len(method.inputs)
    if have > want or (have < want and not method.defaults):
        extra = set(inputs) - set(method.inputs)
        missing = set(method.inputs) - set(inputs)
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"input size does not match signature: {have}!={want} len({{{_listed(inputs)}}}) != "
            f"len({{{_listed(method.inputs)}}}). Sent extra: {{{_listed(extra)}}}. Missing but required: "
            f"{{{_listed(missing)}}}.",
        )


def _fetched(inputs: Mapping[str, Array], alias: str) -> Array:
    try:
        return inputs[alias]
    except (TensorError, MemoryError) as error:
        raise ServingError(Code.INVALID_ARGUMENT, f"tensor parsing error: {alias}") from error


def _typed(index: int, argument: Argument, array: Array) -> Array:
    if array.dtype == argument.dtype:
        return array
    if argument.dtype == object and array.dtype.kind == "S":
        return array.astype(object)
    number = _NUMBERS.get(array.dtype)
    given = dtype_name(number) if number is not None else str(array.dtype)
    raise ServingError(
        Code.INVALID_ARGUMENT,
        f"Expects arg[{index}] to be {dtype_name(argument.number)} but {given} is provided",
    )


def _listed(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _named(servable: Servable, spec: ModelSpec, text: str) -> Method:
    method = servable.methods.get(spec.signature_name)
    if method is None:
        raise ServingError(Code.INVALID_ARGUMENT, f"{text}{spec.signature_name}")
    return method


def _classification(spec: ModelSpec, method: Method) -> Task:
    if len(method.inputs) != 1:
        raise ServingError(Code.INVALID_ARGUMENT, "Expected one input Tensor.")
    if len(method.outputs) not in (1, 2):
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Expected one or two output Tensors, found {len(method.outputs)}"
        )
    if "inputs" not in method.inputs:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"No classification inputs found in SignatureDef: {method.proto}"
        )
    outputs = tuple(alias for alias in ("classes", "scores") if alias in method.outputs)
    if not outputs:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {method.proto}",
        )
    return Task(spec, method, outputs, _check_classes)


def _check_classes(examples: int, outputs: Mapping[str, Array]) -> None:
    for alias, array in outputs.items():
        if array.ndim != 2:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}",
            )
        wanted = "DT_STRING" if alias == "classes" else "DT_FLOAT"
        if array.dtype != (object if alias == "classes" else np.float32):
            raise ServingError(
                Code.INVALID_ARGUMENT, f"Expected {alias} Tensor of {wanted}. Got: {_type_text(array)}"
            )
        if len(array) != examples:
            raise ServingError(
                Code.INVALID_ARGUMENT,
                f"Expected {alias} output batch size of {examples}. Got: {len(array)}",
            )
    widths = [array.shape[1] for array in outputs.values()]
    if len(set(widths)) > 1:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}",
        )


def _regression(spec: ModelSpec, method: Method) -> Task:
    if len(method.inputs) != 1:
        raise ServingError(Code.INVALID_ARGUMENT, "Expected one input Tensor.")
    if len(method.outputs) != 1:
        raise ServingError(Code.INVALID_ARGUMENT, "Expected one output Tensor.")
    if "inputs" not in method.inputs:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"No regression inputs found in SignatureDef: {method.proto}"
        )
    if "outputs" not in method.outputs:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"No regression outputs found in SignatureDef: {method.proto}"
        )
    return Task(spec, method, ("outputs",), _check_regression)


def _check_regression(examples: int, outputs: Mapping[str, Array]) -> None:
    array = outputs["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise ServingError(
            Code.INVALID_ARGUMENT,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape_text(array)}",
        )
    if len(array) != examples:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Input batch size did not match output batch size: {examples} vs. {len(array)}",
        )
    if array.dtype != np.float32:
        raise ServingError(
            Code.INVALID_ARGUMENT, f"Expected output Tensor of DT_FLOAT.  Got: {_type_text(array)}"
        )


def _shape_text(array: Array) -> str:
    return f"[{','.join(str(size) for size in array.shape)}]"


def _type_text(array: Array) -> str:
    number = _NUMBERS.get(array.dtype)
    return str(array.dtype) if number is None else f"DT_{dtype_name(number).upper()}"
