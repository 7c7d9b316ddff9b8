"""Which variants are told to be larger than float32."""

import pytest

from headrace.components.quantization.sizes import larger_than_float32


@pytest.mark.parametrize(
    ("sizes", "larger"),
    [
        ({"float32": 100, "int8_weights": 101, "tflite_float32": 50, "tflite_int8": 51},
         {"int8_weights": "float32", "tflite_int8": "tflite_float32"}),
        ({"float32": 100, "int8_weights": 100, "tflite_float32": 50, "tflite_int8": 49}, {}),
        ({"float32": 10, "tflite_float32": 50, "tflite_float16": 40}, {}),
        ({"int8_weights": 100}, {}),
        ({"float32": None, "int8_weights": 100}, {}),
    ],
)  # fmt: skip
def test_larger(sizes: dict[str, int | None], larger: dict[str, str]) -> None:
    assert larger_than_float32([{"name": n, "size_bytes": size} for n, size in sizes.items()]) == larger
