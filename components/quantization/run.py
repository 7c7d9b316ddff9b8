"""The `variants` node: build every form of the model that the config asks for."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from headrace.components.features.signatures import FittedTransform
from headrace.components.independence.mark import copy_mark
from headrace.components.models.output import Output
from headrace.components.models.portable import portable
from headrace.components.node import NodeContext, NodeResult, emit
from headrace.components.parity.tolerance import TOLERANCE, max_abs_difference, max_relative_difference
from headrace.components.training.signatures import answers, save_module, serving_module
from headrace.data.errors import HeadraceError

from . import lite
from .calibration import read_calibration_rows
from .config import LITE_VARIANTS, VariantsConfig
from .digest import flatbuffer_digest, saved_model_digest
from .rebuild import read_output, rebuild_model
from .serving import Int8Model, TooLarge, int8_model, stored_constant_bytes
from .sizes import larger_than_float32

__all__ = ["Variant", "run"]

Columns = Mapping[str, np.ndarray[Any, Any]]

_BYTES_PER_ELEMENT = {"tflite_float32": 4, "tflite_float16": 2}


@dataclass(frozen=True)
class Variant:
    """One entry of variants.json.

    Attributes:
        name: Name of the variant.
        runtime: What runs it.
        path: Folder or file relative to the artifact; None for float32 (it is the model artifact) and
            where skipped.
        size_bytes: Sum of its files.
        weight_bytes: Bytes of its weights as stored.
        state: Whether it was built.
        reason: Why not, else an empty string.
        max_abs_diff: Largest difference of its answers from float32 on the calibration rows.
        model_sha256: Digest of what it computes, the same for equal models however often they are made.
    """

    name: str
    runtime: str
    path: str | None
    size_bytes: int
    weight_bytes: int
    state: str = "built"
    reason: str = ""
    max_abs_diff: float | None = None
    model_sha256: str = ""


@dataclass(frozen=True)
class _Source:
    """What the variants are built from."""

    model_dir: Path
    transform_dir: str
    features: Mapping[str, Any]
    calibration: Columns
    reference: np.ndarray[Any, Any]

    @property
    def output(self) -> Output:
        return read_output(self.model_dir / "keras")

    @property
    def trained(self) -> Mapping[str, Any]:
        """Content of model.json."""
        found: Mapping[str, Any] = json.loads((self.model_dir / "model.json").read_text(encoding="utf-8"))
        return found

    @property
    def transformed(self) -> str:
        return str(self.model_dir / "Format-Transformed")


def run(ctx: NodeContext) -> NodeResult:
    """Build the variants and write `variants.json`.

    A variant that cannot be built is `skipped` with the reason, never silently: the gates then keep it from
    being pushed.
    """
    config = VariantsConfig.model_validate(ctx.config["variants"])
    source = _read_source(ctx, config)
    out = Path(ctx.outputs["variants"])
    built: list[Variant] = []
    for variant in _variants(source, config, out):
        built.append(variant)
        emit("variant", **asdict(variant), done=len(built), total=len(config.build), text=_sentence(variant))
    text = json.dumps([asdict(variant) for variant in built], indent=1)
    (out / "variants.json").write_text(text, encoding="utf-8")
    return NodeResult(finding=_finding(built))


def _read_source(ctx: NodeContext, config: VariantsConfig) -> _Source:
    model_dir, transform_dir = Path(ctx.input("model")), ctx.input("transform_graph")
    features = json.loads((Path(transform_dir) / "headrace" / "features.json").read_text(encoding="utf-8"))
    rows = read_calibration_rows(
        ctx.input("transformed_examples"), features, config.calibration_rows, int(ctx.config["seed"])
    )
    reference = tf.saved_model.load(str(model_dir / "Format-Transformed")).signatures["serving_default"]
    (answer,) = reference(**{name: tf.constant(values) for name, values in rows.items()}).values()
    return _Source(model_dir, transform_dir, features, rows, answer.numpy())


def _variants(source: _Source, config: VariantsConfig, out: Path) -> Iterator[Variant]:
    control: bytes | HeadraceError | None = None
    for name in config.build:
        if name == "float32":
            yield _float32(source)
        elif name not in LITE_VARIANTS:
            yield _int8_weights(source, out / name)
        else:
            if control is None:
                control = _lite_control(source)
            if isinstance(control, HeadraceError):
                yield Variant(name, "litert", None, 0, 0, "skipped", control.message)
            else:
                yield _lite(name, control, source, out / name)


def _float32(source: _Source) -> Variant:
    folder = source.model_dir / "Format-Serving"
    return Variant(
        "float32",
        "tf",
        None,
        _folder_bytes(folder),
        int(source.trained["parameter_bytes"]),
        max_abs_diff=0.0,
        model_sha256=saved_model_digest(folder, source.trained["sha256"]),
    )


def _int8_weights(source: _Source, folder: Path) -> Variant:
    model = rebuild_model(source.model_dir / "keras")
    try:
        quantized = int8_model(model)
    except TooLarge as error:
        return Variant(folder.name, "tf", None, 0, 0, "skipped", error.message)
    transform = FittedTransform(source.transform_dir)
    with portable(model):
        save_module(
            serving_module(quantized.forward, transform, source.output, quantized.trackables), str(folder)
        )
    copy_mark(str(source.model_dir / "Format-Serving"), str(folder))
    _check_stored(quantized, source.model_dir / "Format-Serving", folder)
    found = answers(
        quantized.forward({n: tf.constant(v) for n, v in source.calibration.items()}), source.output
    )
    (answer,) = found.values()
    difference = max_abs_difference(source.reference, answer.numpy())
    return Variant(
        folder.name,
        "tf",
        folder.name,
        _folder_bytes(folder),
        quantized.weight_bytes,
        max_abs_diff=_finite(difference),
        model_sha256=saved_model_digest(folder, source.trained["sha256"]),
    )


def _check_stored(quantized: Int8Model, float_dir: Path, int8_dir: Path) -> None:
    """Check that no float32 copy of a weight was saved, as a constant or in the checkpoint."""
    constants = stored_constant_bytes(str(int8_dir)) - stored_constant_bytes(str(float_dir))
    variables = sum(file.stat().st_size for file in int8_dir.glob("variables/variables.data-*"))
    # The checkpoint also holds the object graph, which grows with the number of resources, not their size.
    slack = 2**16 + 1024 * len(quantized.trackables)
    if constants > quantized.constant_bytes + slack or variables > quantized.variable_bytes + slack:
        raise lite.BrokenConversion(
            f"an int8_weights model must store about {quantized.weight_bytes:,} bytes of weights. "
            f"Received: {constants:,} bytes of constants and {variables:,} bytes of variables ({int8_dir})"
        )


def _lite_control(source: _Source) -> bytes | HeadraceError:
    """Return the float32 flatbuffer, or the reason why there can be no TF Lite variant."""
    sidecar = Path(source.transform_dir) / "headrace" / "sidecar.json"
    if sidecar.is_file():
        return HeadraceError(str(json.loads(sidecar.read_text(encoding="utf-8"))["reason"]))
    try:
        content = lite.convert_float(source.transformed)
        lite.check_weights(content, _matrix_elements(source.transformed), 4)
    except lite.BrokenConversion as error:
        return error
    except Exception as error:  # the converter raises its own and MLIR's error types
        return HeadraceError(f"the model cannot be converted to TF Lite: {_first_line(error)}")
    difference = max_relative_difference(source.reference, lite.run_lite(content, source.calibration))
    if not difference <= TOLERANCE:
        return lite.BrokenConversion(
            f"float32 TF Lite must answer within {TOLERANCE:g} of the SavedModel. Received: {difference:.3g}"
        )
    return content


def _lite(name: str, control: bytes, source: _Source, folder: Path) -> Variant:
    try:
        content = lite.convert(name, source.transformed, control, source.calibration)
        weights = lite.check_weights(
            content, _matrix_elements(source.transformed), _BYTES_PER_ELEMENT.get(name, 1)
        )
        answer = lite.run_lite(content, source.calibration)
    except lite.BrokenConversion as error:
        return Variant(name, "litert", None, 0, 0, "skipped", error.message)
    except Exception as error:  # as above; the other variants must still be built
        return Variant(name, "litert", None, 0, 0, "skipped", f"the conversion failed: {_first_line(error)}")
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(content)
    difference = max_abs_difference(source.reference, answer)
    return Variant(
        name,
        "litert",
        f"{name}/model.tflite",
        len(content),
        weights,
        max_abs_diff=_finite(difference),
        model_sha256=flatbuffer_digest(content),
    )


def _matrix_elements(saved_model_dir: str) -> int:
    """Return the number of elements of all saved float tensors of rank 2 and more."""
    reader = tf.train.load_checkpoint(os.path.join(saved_model_dir, "variables", "variables"))
    dtypes = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    return sum(
        int(np.prod(shape))
        for name, shape in shapes.items()
        if len(shape) >= 2 and dtypes[name] == tf.float32
    )


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _sentence(variant: Variant) -> str:
    if variant.state == "skipped":
        return f"{variant.name}: skipped, {variant.reason}"
    return f"{variant.name}: {variant.size_bytes:,} bytes"


def _finding(variants: list[Variant]) -> str:
    sizes = {variant.name: variant.weight_bytes for variant in variants if variant.state == "built"}
    parts = [
        f"{name} {sizes[name] / sizes[control]:.2f}x"
        for name, control in (("int8_weights", "float32"), ("tflite_int8", "tflite_float32"))
        if name in sizes and sizes.get(control)
    ]
    skipped = [variant.name for variant in variants if variant.state == "skipped"]
    text = f"{len(sizes)} variants" + (f", weights {', '.join(parts)}" if parts else "")
    larger = larger_than_float32([asdict(variant) for variant in variants if variant.state == "built"])
    text += "".join(f"; {name} is larger than {whole}" for name, whole in larger.items())
    return text + (f"; skipped: {', '.join(skipped)}" if skipped else "")
