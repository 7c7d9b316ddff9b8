"""Rules of sums and products over the axes of a row."""

from typing import Any

from .registry import axis_of, ints_of, need, rows_of, rule, shape_of, told_dims
from .values import Const, Rows, Size, Sizes, product

_REDUCTIONS = "All Any EuclideanNorm Max Mean Min Prod Sum"
_PICTURES = "AvgPool Conv2D DepthwiseConv2dNative MaxPool ResizeBilinear ResizeNearestNeighbor"


@rule(_REDUCTIONS)
def _reduction(node: Any, values: list[Any]) -> Any:
    if isinstance(values[0], Sizes):
        need(node.op == "Prod", "a number depends on the other rows")
        return Sizes((product(values[0].entries),), scalar=True)
    dims = rows_of(values[0]).dims
    axes = [axis + len(dims) + 1 if axis < 0 else axis for axis in ints_of(values[1])]
    need(0 not in axes, "the axis of the rows is reduced or moved")
    need(all(dims[axis - 1].steady for axis in axes), "a size depends on other rows")
    if node.attr["keep_dims"].b:
        return Rows(tuple(Size(1) if place in axes else size for place, size in enumerate(dims, 1)))
    return Rows(tuple(size for place, size in enumerate(dims, 1) if place not in axes))


@rule("ArgMax ArgMin")
def _arg(node: Any, values: list[Any]) -> Any:
    dims = rows_of(values[0]).dims
    axis = axis_of(values[1], len(dims) + 1)
    need(dims[axis - 1].steady, "a size depends on other rows")
    return Rows((*dims[: axis - 1], *dims[axis:]))


@rule("Cumsum Cumprod")
def _cumulative(node: Any, values: list[Any]) -> Any:
    dims = rows_of(values[0]).dims
    need(dims[axis_of(values[1], len(dims) + 1) - 1].steady, "a size depends on other rows")
    return Rows(dims)


@rule("Softmax LogSoftmax")
def _softmax(node: Any, values: list[Any]) -> Any:
    dims = rows_of(values[0], 1).dims
    need(dims[-1].steady, "a size depends on other rows")
    return Rows(dims)


@rule("BiasAdd")
def _bias(node: Any, values: list[Any]) -> Any:
    need(node.attr["data_format"].s in (b"", b"NHWC"), "channels come first")
    need(isinstance(values[1], Const), "a constant is needed")
    return Rows(rows_of(values[0], 1).dims)


@rule("MatMul BatchMatMulV2 BatchMatMul")
def _matmul(node: Any, values: list[Any]) -> Any:
    one, other = values
    turned = node.attr["transpose_a"].b or node.attr["adj_x"].b
    turned_other = node.attr["transpose_b"].b or node.attr["adj_y"].b
    dims = rows_of(one, 1).dims
    need(dims[-1].steady, "a size depends on other rows")
    if isinstance(other, Const):
        shape = shape_of(other)
        need(len(shape) == 2 and not turned, "a matrix is needed")
        return Rows((*dims[:-1], shape[0 if turned_other else 1]))
    second = rows_of(other, 2).dims
    need(len(dims) == len(second) >= 2 and dims[:-2] == second[:-2], "sizes do not fit")
    need(all(size.steady for size in (*dims[-2:], *second[-2:])), "a size depends on other rows")
    return Rows((*dims[:-2], dims[-1 if turned else -2], second[-2 if turned_other else -1]))


@rule("Einsum")
def _einsum(node: Any, values: list[Any]) -> Any:
    sides, _, result = node.attr["equation"].s.decode().partition("->")
    labels = sides.split(",")
    need("." not in sides and bool(result) and len(labels) == len(values), "an equation of another form")
    sizes: dict[str, Size] = {}
    for label, value in zip(labels, values, strict=True):
        shape = shape_of(value)
        need(isinstance(value, Rows | Const) and len(shape) == len(label), "sizes do not fit")
        has_rows = result[0] in label
        need(has_rows == isinstance(value, Rows), "the axis of the rows is reduced or moved")
        need(not has_rows or label.index(result[0]) == 0 == label.rindex(result[0]), "rows are not in axis 0")
        need(all(size.steady for size in shape[int(has_rows) :]), "a size depends on other rows")
        sizes |= dict(zip(label, shape, strict=True))
    return Rows(tuple(sizes[label] for label in result[1:]))


@rule(_PICTURES)
def _static(node: Any, values: list[Any]) -> Any:
    """Pictures: row by row, of a shape that the graph tells."""
    rows_of(values[0], 3)
    need(node.attr["data_format"].s in (b"", b"NHWC"), "channels come first")
    need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    need(all(size.steady for size in values[0].dims), "a size depends on other rows")
    return Rows(told_dims(node))


@rule("FusedBatchNormV3")
def _batch_norm(node: Any, values: list[Any]) -> Any:
    training = "is_training" not in node.attr or node.attr["is_training"].b  # defaults are left out
    need(not training, "statistics of all rows are taken")
    need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    return {"y": [Rows(rows_of(values[0], 1).dims)]}
