"""TensorProto to numpy and back, against TensorFlow's own conversion."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from headrace.serving.server.tensors import DTYPES, MAX_REPEATED, TensorError, from_proto, to_proto

RNG = np.random.default_rng(0)
NAMES = sorted(dtype.name for number, dtype in DTYPES.items() if not dtype.hasobject)


def sample(name: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype = np.dtype(name) if not hasattr(ml_dtypes, name) else np.dtype(getattr(ml_dtypes, name))
    values = RNG.integers(0, 100, shape)
    return (values + 1j).astype(dtype) if dtype.kind == "c" else values.astype(dtype)


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (70,), (9, 3, 5)])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_as_tensorflow_reads_it(name, shape, as_content):
    array = sample(name, shape)
    proto = tensor_pb2.TensorProto.FromString(to_proto(array, as_content=as_content).SerializeToString())
    assert bool(proto.tensor_content) == ((as_content or name.startswith("float8")) and array.size > 0)
    theirs, ours = tf.make_ndarray(proto), from_proto(proto)
    assert ours.dtype == theirs.dtype == array.dtype
    np.testing.assert_array_equal(theirs, array)
    np.testing.assert_array_equal(ours, array)
    assert proto.HasField("tensor_shape")  # upstream's answers have it for scalars, too


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_strings_there_and_back(shape):
    array = np.full(shape, b"\x00\xff", object)
    proto = to_proto(array)
    assert tf.make_ndarray(proto).tolist() == from_proto(proto).tolist() == array.tolist()


def test_strings_in_tensor_content():
    proto = tensor_pb2.TensorProto(dtype=7, tensor_content=b"\x01\x00\x82\x01" + b"a" + b"b" * 130)
    proto.tensor_shape.dim.add().size = 3
    assert from_proto(proto).tolist() == [b"a", b"", b"b" * 130]


@pytest.mark.parametrize("content", [b"\x01", b"\x01\x01a", b"\x01\x01abc", b"\x80\x80", b"\xff" * 12])
def test_strings_in_tensor_content_that_do_not_fit(content):
    proto = tensor_pb2.TensorProto(dtype=7, tensor_content=content)
    proto.tensor_shape.dim.add().size = 2
    with pytest.raises(TensorError, match="tensor_content must hold"):
        from_proto(proto)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], [0] * 4), ([5], [5] * 4), ([1, 2], [1, 2, 2, 2]), ([1, 2, 3, 4, 5], [1, 2, 3, 4])],
)
@pytest.mark.parametrize("field", ["float_val", "int64_val", "bool_val"])
def test_too_few_values_repeat_and_too_many_are_cut(field, values, expected):
    number = {"float_val": 1, "int64_val": 9, "bool_val": 10}[field]
    proto = tensor_pb2.TensorProto(dtype=number, **{field: values})
    proto.tensor_shape.dim.add().size = 4
    assert from_proto(proto).tolist() == [DTYPES[number].type(value) for value in expected]


def test_a_long_block_beside_other_fields():
    """The block is found by its field, not by bytes that look like its key."""
    array = RNG.random(1000).astype(np.float32)
    proto = tensor_pb2.TensorProto(dtype=1, float_val=array.tolist(), version_number=42)
    proto.tensor_shape.dim.add(name="*" * 42).size = 1000
    np.testing.assert_array_equal(from_proto(proto), array)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dtype": 0}, "a tensor must have a known type"),
        ({"dtype": 20}, "a tensor must have a known type"),
        ({"dtype": 1, "tensor_content": b"12345"}, "tensor_content must have 8 bytes. Received: 5"),
    ],
)
def test_what_is_no_tensor(change, text):
    proto = tensor_pb2.TensorProto(**change)
    proto.tensor_shape.dim.add().size = 2
    with pytest.raises(TensorError, match=text):
        from_proto(proto)


@pytest.mark.parametrize("sizes", [[-1], [2, -3], [1] * 33, [2**40, 2**40], [MAX_REPEATED + 1]])
def test_shapes_that_cannot_be(sizes):
    proto = tensor_pb2.TensorProto(dtype=1, float_val=[1.0])
    for size in sizes:
        proto.tensor_shape.dim.add().size = size
    with pytest.raises(TensorError, match="Received: "):
        from_proto(proto)
