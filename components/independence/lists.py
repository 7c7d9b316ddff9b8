"""Rules of look-ups, and of lists of entries that the rows share."""

from typing import Any

from .registry import (
    axis_of,
    ints_of,
    need,
    rows_of,
    rule,
    same_form,
    shape_of,
    sizes_of,
    told_dims,
    with_dims,
)
from .values import BATCH, Const, Entries, Flat, Index, RowOf, Rows, Size, Sizes, fresh


@rule("LookupTableFindV2")
def _lookup(node: Any, values: list[Any]) -> Any:
    need(isinstance(values[0], Const) and isinstance(values[2], Const), "a constant is needed")
    return same_form(values[1])


@rule("OneHot")
def _one_hot(node: Any, values: list[Any]) -> Any:
    dims = same_form(values[0]).dims
    last = "axis" not in node.attr or node.attr["axis"].i in (-1, len(dims) + 1)  # defaults are left out
    need(last and all(isinstance(value, Const) for value in values[1:]), "another axis")
    (depth,) = ints_of(values[1])
    return with_dims(values[0], (*dims, Size(depth)))


@rule("UpperBound LowerBound")
def _bound(node: Any, values: list[Any]) -> Any:
    """`tf.searchsorted`: one list of bounds for all, and what is looked for in one lying row."""
    bounds, sought = values
    need(isinstance(bounds, Const) and isinstance(sought, Flat) and sought.lying, "another form of search")
    return same_form(sought)


@rule("GatherV2 ResourceGather")
def _gather(node: Any, values: list[Any]) -> Any:
    params, indices = values[0], values[1]
    axis = ints_of(values[2])[0] if len(values) > 2 else 0
    if node.op == "ResourceGather":
        need(isinstance(params, Const) and not node.attr["batch_dims"].i, "batches are gathered")
        return with_dims(indices, (*same_form(indices).dims, *told_dims(node)[len(indices.dims) :]))
    need(not node.attr["batch_dims"].i, "batches are gathered")
    if isinstance(params, Const):
        need(axis == 0, "another axis")
        return with_dims(indices, (*same_form(indices).dims, *shape_of(params)[1:]))
    if isinstance(indices, RowOf):
        need(axis == 0, "another axis")
        return _gathered(params, indices)
    dims = rows_of(params).dims
    axis = axis_of(values[2], len(dims) + 1)
    need(isinstance(indices, Const) and dims[axis - 1].known is not None, "a constant is needed")
    return Rows((*dims[: axis - 1], *shape_of(indices), *dims[axis:]))


def _gathered(params: Any, indices: RowOf) -> Entries:
    """Return what the entries of a list take from their rows."""
    if not indices.flat:
        return Entries(indices.of, rows_of(params).dims)
    need(isinstance(params, Flat) and not params.lying, "rows are not in the same axis")
    need(params.base.dims == indices.of.dims, "rows are not in the same axis")
    return Entries(indices.of, ())


@rule("Where")
def _where(node: Any, values: list[Any]) -> Any:
    value = values[0]
    if isinstance(value, Flat):
        need(not value.lying, "rows are not in the same axis")
        return Index(value.base, 1, flat=True)
    return Index(rows_of(value), len(value.dims) + 1)


@rule("GatherNd")
def _gather_nd(node: Any, values: list[Any]) -> Any:
    dims, index = rows_of(values[0]).dims, values[1]
    need(isinstance(index, Index) and not index.flat, "an index of rows is needed")
    need(index.columns <= len(dims) + 1, "sizes do not fit")
    return Entries(index.of, dims[index.columns - 1 :])


@rule("SparseToDense")
def _dense(node: Any, values: list[Any]) -> Any:
    index, sizes, entries, default = values
    shape = sizes_of(sizes)
    need(shape[0] == BATCH and isinstance(default, Const), "the axis of the rows is not known")
    if isinstance(index, Const):
        need(index.shape is not None and not index.shape[0], "entries are the same for all rows")
        return Rows(shape[1:])
    need(isinstance(index, Index) and not index.flat and index.columns == len(shape), "sizes do not fit")
    same = isinstance(entries, Entries) and entries.of is index.of and not entries.dims
    need(same or (isinstance(entries, Const) and entries.shape == ()), "entries of another list")
    return Rows(shape[1:])


@rule("UnsortedSegmentSum UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd")
def _segments(node: Any, values: list[Any]) -> Any:
    entries, rows, number = values
    need(isinstance(entries, Entries) and isinstance(rows, RowOf) and not rows.flat, "a list is needed")
    need(entries.of is rows.of and sizes_of(number) == (BATCH,), "entries of another list")
    return Rows(entries.dims)


@rule("StringSplitV2 StringSplit")
def _string_split(node: Any, values: list[Any]) -> Any:
    rows = rows_of(values[0])
    need(not rows.dims and all(isinstance(value, Const) for value in values[1:]), "one text a row is needed")
    of = Rows(())
    return {
        "indices": [Index(of, 2)],
        "values": [Entries(of, ())],
        "shape": [Sizes((BATCH, fresh("D")))],
    }


@rule("ParseExampleV2")
def _parse(node: Any, values: list[Any]) -> Any:
    need(not rows_of(values[0]).dims, "one example a row is needed")
    need(all(isinstance(value, Const) for value in values[1:]), "a constant is needed")
    need(not node.attr["ragged_value_types"].list.type, "ragged features")
    lists = [Rows(()) for _ in range(node.attr["num_sparse"].i)]
    shapes = [[dim.size for dim in shape.dim] for shape in node.attr["dense_shapes"].list.shape]
    return {
        "sparse_indices": [Index(of, 2) for of in lists],
        "sparse_values": [Entries(of, ()) for of in lists],
        "sparse_shapes": [Sizes((BATCH, fresh("D"))) for _ in lists],
        "dense_values": [
            Rows(tuple(Size(size) if size >= 0 else fresh("D") for size in shape)) for shape in shapes
        ],
    }
