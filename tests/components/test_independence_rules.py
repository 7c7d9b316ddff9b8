"""Each rule on values made by hand: what it gives, and every condition without which it proves nothing."""

from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import node_def_pb2

from headrace.components.independence.rules import RULES
from headrace.components.independence.values import (
    BATCH,
    Const,
    Entries,
    Flat,
    Index,
    RowOf,
    Rows,
    Size,
    Sizes,
    Unproven,
    Value,
    product,
)

N = BATCH
S = Size(1, ("S1",))
D = Size(1, ("D1",))
ONE, OTHER = Rows(()), Rows(())
"""Two lists of entries."""


def rows(*dims: int | Size) -> Rows:
    return Rows(tuple(Size(dim) if isinstance(dim, int) else dim for dim in dims))


def entries(*dims: int, of: Rows = ONE) -> Entries:
    return Entries(of, tuple(map(Size, dims)))


def sizes(*dims: int | Size, scalar: bool = False) -> Sizes:
    return Sizes(rows(*dims).dims, scalar)


def ints(*numbers: int) -> Const:
    return Const((len(numbers),), np.array(numbers))


def number(value: int) -> Const:
    return Const((), np.array(value))


def const(*shape: int) -> Const:
    return Const(shape)


def pads(*pairs: tuple[int, int]) -> Const:
    return Const((len(pairs), 2), np.array(pairs))


def node(op: str, attrs: dict[str, Any], shape: list[int] | None = None) -> Any:
    found = node_def_pb2.NodeDef(name="n", op=op)
    for name, value in attrs.items():
        attr = found.attr[name]
        if isinstance(value, bool):
            attr.b = value
        elif isinstance(value, int):
            attr.i = value
        elif isinstance(value, str):
            attr.s = value.encode()
        else:
            attr.list.i.extend(value)
    if shape is not None:
        told = found.attr["_output_shapes"].list.shape.add()
        for size in shape:
            told.dim.add().size = size
    return found


def form(value: Any) -> Any:
    """A value as plain data; sizes as numbers or symbols."""

    def plain(dims: tuple[Size, ...]) -> list[Any]:
        shown = []
        for size in dims:
            kinds = "".join(symbol[0] for symbol in size.symbols)
            shown.append(size.known if size.known is not None else f"{size.factor}{kinds}")
        return shown

    match value:
        case Rows(dims):
            return ["rows", *plain(dims)]
        case Entries(of, dims):
            return ["entries", of is ONE, *plain(dims)]
        case Sizes(found, scalar):
            return ["scalar" if scalar else "sizes", *plain(found)]
        case Flat(base, lying):
            return ["lying" if lying else "flat", *plain(base.dims)]
        case Index(of, columns, flat):
            return ["index", columns, flat]
        case RowOf(of, flat):
            return ["rowof", of is ONE, flat]
        case Const(shape):
            return ["const", shape]
        case dict():
            return {name: [form(item) for item in items] for name, items in value.items()}
        case list():
            return [form(item) for item in value]
    raise AssertionError(value)


SLICE_ROWS = {"begin_mask": 1, "end_mask": 1}
SECOND = {**SLICE_ROWS, "shrink_axis_mask": 2}
ELLIPSIS = {"ellipsis_mask": 1, "shrink_axis_mask": 2}
NEW = {"ellipsis_mask": 1, "new_axis_mask": 2}
FROM = (ints(0, 0), ints(0, 1), ints(1, 1))
NORM = {"is_training": False}
WHOLE: list[tuple[str, dict[str, Any], list[Value], Any]] = [
    ("Relu", {}, [rows(3)], ["rows", 3]),
    ("Relu", {}, [entries(2)], ["entries", True, 2]),
    ("Relu", {}, [Flat(rows(2, 3))], ["flat", 2, 3]),
    ("Neg", {}, [Flat(rows(), lying=True)], ["lying"]),
    ("Cast", {}, [Index(ONE, 2)], ["index", 2, False]),
    ("Cast", {}, [sizes(N, 2)], ["sizes", "1N", 2]),
    ("Mul", {}, [rows(3), const()], ["rows", 3]),
    ("Mul", {}, [rows(3), const(3)], ["rows", 3]),
    ("Mul", {}, [rows(1), const(3)], ["rows", 3]),
    ("Mul", {}, [rows(3), const(1, 3)], ["rows", 3]),
    ("Mul", {}, [rows(), const(1)], ["rows"]),
    ("Mul", {}, [rows(3), rows(1)], ["rows", 3]),
    ("Mul", {}, [rows(1, D), rows(2, 1)], ["rows", 2, "1D"]),
    ("Mul", {}, [rows(3), sizes(S, scalar=True)], ["rows", 3]),
    ("Mul", {}, [entries(), entries()], ["entries", True]),
    ("Mul", {}, [Flat(rows(2)), const()], ["flat", 2]),
    ("Mul", {}, [Flat(rows(2)), Flat(rows(2))], ["flat", 2]),
    ("Select", {}, [rows(), rows(4), rows(4)], ["rows", 4]),
    ("SelectV2", {}, [rows(1), rows(4), const()], ["rows", 4]),
    ("Mul", {}, [sizes(N, scalar=True), number(3)], ["scalar", "3N"]),
    ("Mul", {}, [sizes(N, 2), ints(3, 5)], ["sizes", "3N", 10]),
    ("Mul", {}, [sizes(N, 2), number(2)], ["sizes", "2N", 4]),
    ("Maximum", {}, [sizes(D, scalar=True), number(1)], ["scalar", "1D"]),
    ("AddV2", {}, [sizes(S, scalar=True), number(1)], ["scalar", "1S"]),
    ("Sub", {}, [sizes(N, scalar=True), number(1)], ["scalar", "1D"]),
    ("Shape", {}, [rows(2, D)], [["sizes", "1N", 2, "1D"]]),
    ("Shape", {}, [entries(2)], [["sizes", "1E", 2]]),
    ("Shape", {}, [const(4, 5)], [["sizes", 4, 5]]),
    ("Size", {}, [rows(2, 3)], ["scalar", "6N"]),
    ("StridedSlice", SECOND, [rows(5), ints(0, 2), ints(0, 3), ints(1, 1)], ["rows"]),
    ("StridedSlice", SLICE_ROWS, [rows(5, 6), ints(0, 1), ints(0, 4), ints(1, 2)], ["rows", 2, 6]),
    ("StridedSlice", {**SLICE_ROWS, "new_axis_mask": 2}, [rows(5), *FROM], ["rows", 1, 5]),
    ("StridedSlice", SECOND, [rows(D), *FROM], ["rows"]),
    ("StridedSlice", SLICE_ROWS, [rows(S), ints(0, 0), ints(0, 2), ints(1, 1)], ["rows", "1S"]),
    ("StridedSlice", ELLIPSIS, [rows(5, 6), ints(0, 3), ints(0, 4), ints(1, 1)], ["rows", 5]),
    ("StridedSlice", NEW, [rows(5), ints(0, 0), ints(0, 0), ints(1, 1)], ["rows", 5, 1]),
    ("StridedSlice", SLICE_ROWS, [entries(4), ints(0, 1), ints(0, 3), ints(1, 1)], ["entries", True, 2]),
    ("StridedSlice", {"shrink_axis_mask": 1}, [sizes(N, 7, 8), ints(0), ints(1), ints(1)], ["scalar", "1N"]),
    ("StridedSlice", {"shrink_axis_mask": 1}, [sizes(N, 7, 8), ints(-1), ints(0), ints(1)], ["scalar", 8]),
    ("StridedSlice", {"end_mask": 1}, [sizes(N, 7, 8), ints(1), ints(0), ints(1)], ["sizes", 7, 8]),
    ("StridedSlice", {}, [sizes(N, 7, 8), ints(0), ints(2), ints(1)], ["sizes", "1N", 7]),
    ("StridedSlice", SECOND, [Index(ONE, 2), *FROM], ["rowof", True, False]),
    ("Slice", {}, [rows(5, 6), ints(0, 1, 0), ints(-1, 3, -1)], ["rows", 3, 6]),
    ("Slice", {}, [rows(5), ints(0, 2), ints(-1, -1)], ["rows", 3]),
    ("Slice", {}, [rows(D), ints(0, 0), ints(-1, -1)], ["rows", "1D"]),
    ("Reshape", {}, [rows(2, 3), ints(-1, 6)], ["rows", 6]),
    ("Reshape", {}, [rows(6), sizes(N, 2, 3)], ["rows", 2, 3]),
    ("Reshape", {}, [rows(6), sizes(N, -1)], ["rows", 6]),
    ("Reshape", {}, [rows(6, S), sizes(N, -1, S)], ["rows", 6, "1S"]),
    ("Reshape", {}, [rows(), ints(-1)], ["rows"]),
    ("Reshape", {}, [rows(), sizes(N)], ["rows"]),
    ("Reshape", {}, [rows(), ints(-1, 1)], ["rows", 1]),
    ("Reshape", {}, [rows(2), ints(-1)], ["flat", 2]),
    ("Reshape", {}, [rows(2), sizes(product([N, Size(2)]))], ["flat", 2]),
    ("Reshape", {}, [rows(), ints(1, -1)], ["lying"]),
    ("Reshape", {}, [rows(), sizes(-1, N)], ["lying"]),
    ("Reshape", {}, [Flat(rows(), lying=True), sizes(N)], ["rows"]),
    ("Reshape", {}, [Flat(rows(2, 3)), sizes(N, 3, 2)], ["rows", 3, 2]),
    ("Reshape", {}, [entries(), ints(-1)], ["entries", True]),
    ("Reshape", {}, [sizes(N), Const((0,), np.zeros(0, int))], ["scalar", "1N"]),
    ("Reshape", {}, [const(6), ints(2, 3)], ["const", None]),
    ("ExpandDims", {}, [rows(3), number(1)], ["rows", 1, 3]),
    ("ExpandDims", {}, [rows(3), number(-1)], ["rows", 3, 1]),
    ("ExpandDims", {}, [entries(), number(1)], ["entries", True, 1]),
    ("ExpandDims", {}, [sizes(N, scalar=True), number(0)], ["sizes", "1N"]),
    ("Squeeze", {"squeeze_dims": [1]}, [rows(1, 3)], ["rows", 3]),
    ("Squeeze", {"squeeze_dims": [-1]}, [rows(3, 1)], ["rows", 3]),
    ("Squeeze", {"squeeze_dims": [1]}, [Index(ONE, 1)], ["rowof", True, False]),
    ("Squeeze", {"squeeze_dims": [0]}, [sizes(N)], ["scalar", "1N"]),
    ("Transpose", {}, [rows(2, 3), ints(0, 2, 1)], ["rows", 3, 2]),
    ("ConcatV2", {}, [rows(2), rows(3), number(1)], ["rows", 5]),
    ("ConcatV2", {}, [rows(2, 4), rows(2, 5), number(-1)], ["rows", 2, 9]),
    ("ConcatV2", {}, [rows(S), rows(3), number(1)], ["rows", "1S"]),
    ("ConcatV2", {}, [sizes(N), ints(3, 4), number(0)], ["sizes", "1N", 3, 4]),
    ("Pack", {"axis": 1}, [rows(3), rows(3)], ["rows", 2, 3]),
    ("Pack", {"axis": -1}, [rows(3), rows(3)], ["rows", 3, 2]),
    ("Pack", {}, [sizes(N, scalar=True), number(4)], ["sizes", "1N", 4]),
    ("Unpack", {"axis": 1, "num": 2}, [rows(2, 3)], [["rows", 3], ["rows", 3]]),
    ("Unpack", {"num": 2}, [sizes(N, 3)], [["scalar", "1N"], ["scalar", 3]]),
    ("Split", {"num_split": 2}, [number(1), rows(6, 3)], [["rows", 3, 3], ["rows", 3, 3]]),
    ("Pad", {}, [rows(3, 4), pads((0, 0), (1, 2), (0, 0))], ["rows", 6, 4]),
    ("Pad", {}, [Index(ONE, 1), pads((0, 0), (0, 1))], ["index", 2, False]),
    ("Fill", {}, [sizes(N, 2), const()], ["rows", 2]),
    ("BroadcastTo", {}, [const(1, 3), sizes(N, 3)], ["rows", 3]),
    ("BroadcastTo", {}, [const(3), sizes(N, 3)], ["rows", 3]),
    ("BroadcastTo", {}, [rows(1), sizes(N, 3)], ["rows", 3]),
    ("Tile", {}, [const(1, 3), sizes(N, 2)], ["rows", 6]),
    ("Tile", {}, [rows(3), ints(1, 2)], ["rows", 6]),
    ("Sum", {}, [rows(2, 3), ints(1)], ["rows", 3]),
    ("Mean", {}, [rows(2, 3), ints(-1)], ["rows", 2]),
    ("Max", {"keep_dims": True}, [rows(2, 3), ints(1)], ["rows", 1, 3]),
    ("Sum", {}, [rows(2, D), ints(1)], ["rows", "1D"]),
    ("Prod", {}, [sizes(N, 3), ints(0)], ["scalar", "3N"]),
    ("ArgMax", {}, [rows(2, 3), number(2)], ["rows", 2]),
    ("Cumsum", {}, [rows(2, 3), number(-1)], ["rows", 2, 3]),
    ("Softmax", {}, [rows(3)], ["rows", 3]),
    ("BiasAdd", {}, [rows(3), const(3)], ["rows", 3]),
    ("MatMul", {}, [rows(4), const(4, 3)], ["rows", 3]),
    ("MatMul", {"transpose_b": True}, [rows(4), const(3, 4)], ["rows", 3]),
    ("BatchMatMulV2", {}, [rows(2, 4), const(4, 3)], ["rows", 2, 3]),
    ("BatchMatMulV2", {}, [rows(2, 4), rows(4, 3)], ["rows", 2, 3]),
    ("BatchMatMulV2", {"adj_x": True}, [rows(4, 2), rows(4, 3)], ["rows", 2, 3]),
    ("BatchMatMulV2", {"adj_y": True}, [rows(5, 2, 4), rows(5, 3, 4)], ["rows", 5, 2, 3]),
    ("Einsum", {"equation": "bij,jk->bik"}, [rows(2, 3), const(3, 4)], ["rows", 2, 4]),
    ("Einsum", {"equation": "bij,bkj->bki"}, [rows(2, 3), rows(5, 3)], ["rows", 5, 2]),
    ("FusedBatchNormV3", NORM, [rows(2, 2, 3), *[const(3)] * 4], {"y": [["rows", 2, 2, 3]]}),
    ("FusedBatchNormV3", NORM, [rows(3), *[const(3)] * 4], {"y": [["rows", 3]]}),
    ("LookupTableFindV2", {}, [const(), rows(2), const()], ["rows", 2]),
    ("LookupTableFindV2", {}, [const(), entries(), const()], ["entries", True]),
    ("OneHot", {}, [rows(2), number(5), const(), const()], ["rows", 2, 5]),
    ("OneHot", {"axis": -1}, [entries(), number(5), const(), const()], ["entries", True, 5]),
    ("OneHot", {"axis": 2}, [rows(2), number(5), const(), const()], ["rows", 2, 5]),
    ("UpperBound", {}, [const(1, 3), Flat(rows(), lying=True)], ["lying"]),
    ("GatherV2", {}, [const(9, 4), rows(2), number(0)], ["rows", 2, 4]),
    ("GatherV2", {}, [const(9, 4), entries(), number(0)], ["entries", True, 4]),
    ("GatherV2", {}, [rows(5, 6), const(3), number(1)], ["rows", 3, 6]),
    ("GatherV2", {}, [rows(4), RowOf(ONE), number(0)], ["entries", True, 4]),
    ("GatherV2", {}, [Flat(rows()), RowOf(ONE, flat=True), number(0)], ["entries", True]),
    ("Where", {}, [rows(2)], ["index", 2, False]),
    ("Where", {}, [Flat(rows(2))], ["index", 1, True]),
    ("GatherNd", {}, [rows(2, 3), Index(ONE, 2)], ["entries", True, 3]),
    ("GatherNd", {}, [rows(2), Index(ONE, 1)], ["entries", True, 2]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N, D), entries(), const()], ["rows", "1D"]),
    ("SparseToDense", {}, [Index(ONE, 1), sizes(N), const(), const()], ["rows"]),
    ("SparseToDense", {}, [const(0, 2), sizes(N, 3), const(0), const()], ["rows", 3]),
    ("UnsortedSegmentSum", {}, [entries(2), RowOf(ONE), sizes(N, scalar=True)], ["rows", 2]),
    ("StringSplitV2", {}, [rows(), const()], {"indices": [["index", 2, False]],
        "values": [["entries", False]], "shape": [["sizes", "1N", "1D"]]}),
]  # fmt: skip
TOLD: list[tuple[str, dict[str, Any], list[Value], list[int], Any]] = [
    ("Conv2D", {"data_format": "NHWC"}, [rows(8, 8, 3), const(3, 3, 3, 2)], [-1, 8, 8, 2], ["rows", 8, 8, 2]),
    ("MaxPool", {}, [rows(8, 8, 3)], [-1, 4, 4, 3], ["rows", 4, 4, 3]),
    ("ResourceGather", {}, [const(), rows(2)], [-1, 2, 7], ["rows", 2, 7]),
]


@pytest.mark.parametrize(("op", "attrs", "values", "wanted"), WHOLE)
def test_what_a_rule_makes_of_its_inputs(op, attrs, values, wanted):
    assert form(RULES[op](node(op, attrs), values)) == wanted


@pytest.mark.parametrize(("op", "attrs", "values", "shape", "wanted"), TOLD)
def test_what_a_rule_makes_of_the_shape_that_the_graph_tells(op, attrs, values, shape, wanted):
    assert form(RULES[op](node(op, attrs, shape), values)) == wanted
    with pytest.raises(Unproven, match="a shape is not known"):
        RULES[op](node(op, attrs), values)
    with pytest.raises(Unproven, match="a shape is not known"):
        RULES[op](node(op, attrs, [*shape[:-1], -1]), values)


FEW = {"begin_mask": 1}
UNPROVEN: list[tuple[str, dict[str, Any], list[Value]]] = [
    ("Relu", {}, [Index(ONE, 1)]),
    ("Mul", {}, [rows(3), const(4, 3)]),
    ("Mul", {}, [rows(), const(3)]),
    ("Mul", {}, [rows(3), Const(None)]),
    ("Mul", {}, [rows(3), const(4)]),
    ("Mul", {}, [rows(3), const(1, 1, 3)]),
    ("Mul", {}, [rows(3), rows()]),
    ("Mul", {}, [rows(2), rows(D)]),
    ("Mul", {}, [rows(3), entries(3)]),
    ("Mul", {}, [entries(), entries(of=OTHER)]),
    ("Mul", {}, [rows(3), sizes(N, scalar=True)]),
    ("Mul", {}, [rows(3), sizes(D, scalar=True)]),
    ("Mul", {}, [Flat(rows(2)), const(4)]),
    ("Mul", {}, [Flat(rows(2)), Flat(rows(3))]),
    ("Mul", {}, [Flat(rows()), Flat(rows(), lying=True)]),
    ("Mul", {}, [Flat(rows(2)), rows(2)]),
    ("Mul", {}, [Index(ONE, 1), number(2)]),
    ("Select", {}, [rows(3), rows(4), rows(4)]),
    ("Range", {}, [number(0), sizes(N, scalar=True), number(1)]),
    ("Shape", {}, [Flat(rows(2))]),
    ("StridedSlice", {}, [rows(5), ints(0), ints(1), ints(1)]),
    ("StridedSlice", {"end_mask": 1}, [rows(5), ints(1), ints(0), ints(1)]),
    ("StridedSlice", {**SLICE_ROWS}, [rows(5), ints(0), ints(0), ints(-1)]),
    ("StridedSlice", {"shrink_axis_mask": 1}, [rows(5), ints(0), ints(1), ints(1)]),
    ("StridedSlice", {"shrink_axis_mask": 1}, [rows(N), ints(0), ints(1), ints(1)]),
    ("StridedSlice", {"new_axis_mask": 1}, [rows(5), ints(0), ints(0), ints(1)]),
    ("StridedSlice", SECOND, [rows(D), ints(0, -1), ints(0, 0), ints(1, 1)]),
    ("StridedSlice", SLICE_ROWS, [rows(D), ints(0, 0), ints(0, 2), ints(1, 1)]),
    ("StridedSlice", SLICE_ROWS, [rows(5), sizes(0, N), ints(0, 2), ints(1, 1)]),
    ("StridedSlice", {"new_axis_mask": 1}, [sizes(N, 2), ints(0), ints(0), ints(1)]),
    ("StridedSlice", {"ellipsis_mask": 1}, [sizes(N, 2), ints(0), ints(0), ints(1)]),
    ("StridedSlice", {}, [sizes(N, scalar=True), ints(0), ints(1), ints(1)]),
    ("StridedSlice", SECOND, [Index(ONE, 2), ints(0, 1), ints(0, 2), ints(1, 1)]),
    ("StridedSlice", SLICE_ROWS, [Index(ONE, 2), *FROM]),
    ("StridedSlice", {**FEW, "shrink_axis_mask": 2}, [Index(ONE, 2), ints(0, 0), ints(3, 1), ints(1, 1)]),
    ("Slice", {}, [rows(5), ints(1, 0), ints(-1, 2)]),
    ("Slice", {}, [rows(5), ints(0, 0), ints(3, 2)]),
    ("Slice", {}, [rows(D), ints(0, 1), ints(-1, -1)]),
    ("Reshape", {}, [rows(6), ints(2, -1)]),
    ("Reshape", {}, [rows(6), ints(-1, 3)]),
    ("Reshape", {}, [rows(6), ints(-1, 12)]),
    ("Reshape", {}, [rows(6), ints(-1, -1)]),
    ("Reshape", {}, [rows(6), sizes(N, 4, -1)]),
    ("Reshape", {}, [rows(6), sizes(6, N)]),
    ("Reshape", {}, [rows(6), sizes(-1, 2, N)]),
    ("Reshape", {}, [rows(D), sizes(N, 6)]),
    ("Reshape", {}, [rows(0), sizes(-1, 0)]),
    ("Reshape", {}, [rows(6), Const((2,))]),
    ("Reshape", {}, [rows(6), Const((0,), np.zeros(0, int))]),
    ("Reshape", {}, [entries(), ints(-1, 1)]),
    ("Reshape", {}, [entries(2), ints(-1)]),
    ("Reshape", {}, [const(6), sizes(N, -1)]),
    ("Reshape", {}, [Index(ONE, 1), ints(-1)]),
    ("ExpandDims", {}, [rows(3), number(0)]),
    ("ExpandDims", {}, [rows(3), number(-3)]),
    ("Squeeze", {}, [rows(1)]),
    ("Squeeze", {"squeeze_dims": [0]}, [rows(1)]),
    ("Squeeze", {"squeeze_dims": [-2]}, [rows(1)]),
    ("Squeeze", {"squeeze_dims": [1]}, [Index(ONE, 2)]),
    ("Squeeze", {"squeeze_dims": [0]}, [Index(ONE, 1)]),
    ("Transpose", {}, [rows(2), ints(1, 0)]),
    ("Transpose", {}, [rows(2), const(2)]),
    ("ConcatV2", {}, [rows(2), rows(3), number(0)]),
    ("ConcatV2", {}, [rows(2), rows(3), number(-2)]),
    ("ConcatV2", {}, [rows(2), const(7, 3), number(1)]),
    ("ConcatV2", {}, [rows(D), rows(3), number(1)]),
    ("ConcatV2", {}, [rows(2), rows(3, 2), number(1)]),
    ("Pack", {}, [rows(3), rows(3)]),
    ("Pack", {"axis": 1}, [rows(3), rows(4)]),
    ("Pack", {"axis": 1}, [rows(3), const(7, 3)]),
    ("Unpack", {"num": 2}, [rows(2)]),
    ("Split", {"num_split": 2}, [number(0), rows(6)]),
    ("Split", {"num_split": 2}, [number(1), rows(5)]),
    ("Split", {"num_split": 2}, [number(1), rows(S)]),
    ("Pad", {}, [rows(3), pads((1, 0), (0, 0))]),
    ("Pad", {}, [rows(3), pads((0, 1), (0, 0))]),
    ("Pad", {}, [rows(D), pads((0, 0), (0, 1))]),
    ("Pad", {}, [rows(3), const(2, 2)]),
    ("Pad", {}, [Index(ONE, 1), pads((0, 0), (1, 0))]),
    ("Pad", {}, [Index(ONE, 1, flat=True), pads((0, 0), (0, 1))]),
    ("Fill", {}, [sizes(D, 2), const()]),
    ("Fill", {}, [sizes(2, 3), rows()]),
    ("Fill", {}, [sizes(product([N, Size(2)])), const()]),
    ("BroadcastTo", {}, [const(5, 3), sizes(N, 3)]),
    ("BroadcastTo", {}, [rows(1), sizes(2, N, 3)]),
    ("BroadcastTo", {}, [rows(1), sizes(4, 3)]),
    ("BroadcastTo", {}, [entries(1), sizes(N, 3)]),
    ("Tile", {}, [const(2, 3), sizes(N, 1)]),
    ("Tile", {}, [const(1, 3), sizes(D, 1)]),
    ("Tile", {}, [rows(3), ints(2, 1)]),
    ("Sum", {}, [rows(2), ints(0)]),
    ("Sum", {}, [rows(2), ints(-2)]),
    ("Sum", {}, [rows(2), ints(0, 1)]),
    ("Sum", {}, [rows(D), ints(1)]),
    ("Sum", {}, [rows(N), ints(1)]),
    ("Sum", {}, [rows(2), const(1)]),
    ("Sum", {}, [entries(2), ints(1)]),
    ("Max", {}, [sizes(N, 3), ints(0)]),
    ("ArgMax", {}, [rows(2), number(0)]),
    ("ArgMax", {}, [rows(D), number(1)]),
    ("Cumsum", {}, [rows(2), number(0)]),
    ("Cumsum", {}, [rows(D), number(1)]),
    ("Softmax", {}, [rows()]),
    ("Softmax", {}, [rows(D)]),
    ("BiasAdd", {}, [rows(), const(3)]),
    ("BiasAdd", {}, [rows(3), rows()]),
    ("BiasAdd", {"data_format": "NCHW"}, [rows(3, 2), const(3)]),
    ("MatMul", {"transpose_a": True}, [rows(4), const(4, 3)]),
    ("MatMul", {}, [rows(4), rows(4)]),
    ("MatMul", {}, [rows(), const(4, 3)]),
    ("MatMul", {}, [const(3, 4), rows(4)]),
    ("MatMul", {}, [rows(D), const(4, 3)]),
    ("MatMul", {}, [rows(4), Const(None)]),
    ("BatchMatMulV2", {}, [rows(2, 4), const(5, 4, 3)]),
    ("BatchMatMulV2", {}, [rows(2, 4), rows(4)]),
    ("BatchMatMulV2", {}, [rows(4), rows(4, 3)]),
    ("BatchMatMulV2", {}, [rows(5, 2, 4), rows(6, 4, 3)]),
    ("BatchMatMulV2", {}, [rows(D, 4), rows(4, 3)]),
    ("BatchMatMulV2", {}, [rows(2, 4), rows(4, D)]),
    ("Einsum", {"equation": "bi,bj->ij"}, [rows(2), rows(3)]),
    ("Einsum", {"equation": "ai,bi->ab"}, [rows(2), rows(2)]),
    ("Einsum", {"equation": "bi,bi->"}, [rows(2), rows(2)]),
    ("Einsum", {"equation": "ib,bj->bj"}, [rows(2), rows(3)]),
    ("Einsum", {"equation": "bb->b"}, [rows(2)]),
    ("Einsum", {"equation": "bi,bj->bj"}, [rows(2), const(4, 3)]),
    ("Einsum", {"equation": "bi,ij->bj"}, [rows(D), const(4, 3)]),
    ("Einsum", {"equation": "bi,ij->bj"}, [rows(N), const(4, 3)]),
    ("Einsum", {"equation": "bi->b"}, [rows(2, 3)]),
    ("Einsum", {"equation": "bi,i->b"}, [rows(2)]),
    ("Einsum", {"equation": "b...->b..."}, [rows(2, 3, 4)]),
    ("Einsum", {"equation": "bij"}, [rows(2, 3)]),
    ("FusedBatchNormV3", {}, [rows(2, 2, 3), *[const(3)] * 4]),
    ("FusedBatchNormV3", {"is_training": True}, [rows(2, 2, 3), *[const(3)] * 4]),
    ("FusedBatchNormV3", NORM, [rows(2, 2, 3), rows(), *[const(3)] * 3]),
    ("FusedBatchNormV3", NORM, [rows(), *[const(3)] * 4]),
    ("LookupTableFindV2", {}, [const(), rows(2), rows()]),
    ("LookupTableFindV2", {}, [const(), Index(ONE, 1), const()]),
    ("OneHot", {"axis": 0}, [rows(2), number(5), const(), const()]),
    ("OneHot", {"axis": 1}, [rows(2), number(5), const(), const()]),
    ("OneHot", {}, [rows(2), sizes(N, scalar=True), const(), const()]),
    ("OneHot", {}, [rows(2), number(5), rows(), const()]),
    ("UpperBound", {}, [rows(3), Flat(rows(), lying=True)]),
    ("UpperBound", {}, [const(1, 3), Flat(rows(2))]),
    ("UpperBound", {}, [const(1, 3), rows(2)]),
    ("GatherV2", {}, [const(9, 4), rows(2), number(1)]),
    ("GatherV2", {"batch_dims": 1}, [const(9, 4), rows(2), number(0)]),
    ("GatherV2", {}, [Const(None), rows(2), number(0)]),
    ("GatherV2", {}, [rows(5), const(3), number(0)]),
    ("GatherV2", {}, [rows(5), rows(), number(0)]),
    ("GatherV2", {}, [rows(5), rows(), number(1)]),
    ("GatherV2", {}, [rows(D), const(3), number(1)]),
    ("GatherV2", {}, [rows(4), RowOf(ONE), number(1)]),
    ("GatherV2", {}, [Flat(rows(2)), RowOf(ONE), number(0)]),
    ("GatherV2", {}, [rows(), RowOf(ONE, flat=True), number(0)]),
    ("GatherV2", {}, [Flat(rows(), lying=True), RowOf(ONE, flat=True), number(0)]),
    ("GatherV2", {}, [Flat(rows(2)), RowOf(ONE, flat=True), number(0)]),
    ("ResourceGather", {"batch_dims": 1}, [const(), rows(2)]),
    ("ResourceGather", {}, [rows(), rows(2)]),
    ("Where", {}, [Flat(rows(), lying=True)]),
    ("Where", {}, [entries()]),
    ("GatherNd", {}, [rows(2), rows()]),
    ("GatherNd", {}, [rows(2), Index(ONE, 1, flat=True)]),
    ("GatherNd", {}, [rows(2), Index(ONE, 3)]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(D, 3), entries(), const()]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N, 3), entries(of=OTHER), const()]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N, 3), entries(2), const()]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N, 3), const(4), const()]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N, 3), entries(), rows()]),
    ("SparseToDense", {}, [Index(ONE, 2), sizes(N), entries(), const()]),
    ("SparseToDense", {}, [Index(ONE, 1, flat=True), sizes(N), entries(), const()]),
    ("SparseToDense", {}, [const(2, 2), sizes(N, 3), const(2), const()]),
    ("SparseToDense", {}, [Const(None), sizes(N, 3), const(2), const()]),
    ("UnsortedSegmentSum", {}, [entries(of=OTHER), RowOf(ONE), sizes(N, scalar=True)]),
    ("UnsortedSegmentSum", {}, [entries(), RowOf(ONE), sizes(D, scalar=True)]),
    ("UnsortedSegmentSum", {}, [entries(), RowOf(ONE, flat=True), sizes(N, scalar=True)]),
    ("UnsortedSegmentSum", {}, [rows(), RowOf(ONE), sizes(N, scalar=True)]),
    ("StringSplitV2", {}, [rows(2), const()]),
    ("StringSplitV2", {}, [rows(), rows()]),
    ("ParseExampleV2", {}, [rows(2), const()]),
    ("ParseExampleV2", {}, [rows(), rows()]),
    ("Conv2D", {"data_format": "NCHW"}, [rows(3, 8, 8), const(3, 3, 3, 2)]),
    ("Conv2D", {}, [rows(8, 8, 3), rows(3, 3, 2)]),
    ("Conv2D", {}, [rows(8, D, 3), const(3, 3, 3, 2)]),
    ("Conv2D", {}, [rows(8, 8), const(3, 3, 3, 2)]),
]  # fmt: skip
FAULTS = (Unproven, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What the walk takes as "not proven"."""


@pytest.mark.parametrize(("op", "attrs", "values"), UNPROVEN)
def test_what_a_rule_does_not_prove(op, attrs, values):
    with pytest.raises(FAULTS):
        form(RULES[op](node(op, attrs, [-1, 4, 4, 4]), values))


def test_lists_of_one_condition_are_one_and_those_of_two_are_not():
    condition, other, value = rows(), rows(), rows()
    where, gather = RULES["Where"], RULES["GatherNd"]
    taken = gather(node("GatherNd", {}), [value, where(node("Where", {}), [condition])])
    for of, same in ((condition, True), (other, False)):
        index = RULES["Pad"](node("Pad", {}), [where(node("Where", {}), [of]), pads((0, 0), (0, 1))])
        values = [index, sizes(N, 1), taken, const()]
        if same:
            assert form(RULES["SparseToDense"](node("SparseToDense", {}), values)) == ["rows", 1]
        else:
            with pytest.raises(Unproven, match="entries of another list"):
                RULES["SparseToDense"](node("SparseToDense", {}), values)


def test_a_cast_makes_another_condition():
    condition = rows()
    assert RULES["Identity"](node("Identity", {}), [condition]) is condition
    assert RULES["Cast"](node("Cast", {}), [condition]) is not condition


def test_as_many_as_a_list_has_are_entries_of_it():
    (shape,) = RULES["Shape"](node("Shape", {}), [entries()])
    assert form(RULES["Fill"](node("Fill", {}), [shape, const()])) == ["entries", True]
    assert RULES["Fill"](node("Fill", {}), [shape, const()]).of is ONE


def test_examples_are_read_into_lists_and_dense_rows():
    found = node("ParseExampleV2", {"num_sparse": 2})
    for size in ([2, 3], [-1], [0]):
        shape = found.attr["dense_shapes"].list.shape.add()
        for one in size:
            shape.dim.add().size = one
    parsed = RULES["ParseExampleV2"](found, [rows(), *[const()] * 5])
    assert form(parsed["dense_values"]) == [["rows", 2, 3], ["rows", "1D"], ["rows", 0]]
    assert form(parsed["sparse_shapes"]) == [["sizes", "1N", "1D"]] * 2
    first, second = parsed["sparse_indices"]
    assert first.of is parsed["sparse_values"][0].of is not second.of
    found.attr["ragged_value_types"].list.type.append(1)
    with pytest.raises(Unproven, match="ragged features"):
        RULES["ParseExampleV2"](found, [rows(), *[const()] * 5])
