"""The table of operators that are known to be row-wise, and what its rules are made of."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from .values import BATCH, Const, Entries, Flat, Rows, Size, Sizes, Unproven, Value, fresh

__all__ = [
    "LISTS",
    "RULES",
    "axis_of",
    "broadcast",
    "ints_of",
    "need",
    "quotient",
    "rows_of",
    "rule",
    "same_form",
    "shape_of",
    "sizes_of",
    "static_shape",
    "told_dims",
    "with_dims",
]

Rule = Callable[[Any, list[Any]], Any]
RULES: dict[str, Rule] = {}
"""Operator -> its rule: a node and its inputs -> one value, or a list or a dictionary of several."""

LISTS: WeakValueDictionary[str, Rows] = WeakValueDictionary()
"""Symbol of a length -> the list of entries that has it."""

_SYMBOLS: WeakKeyDictionary[Rows, str] = WeakKeyDictionary()


def rule(names: str) -> Callable[[Rule], Rule]:
    """Put a function into the table, for the operators that `names` lists."""

    def add(rule: Rule) -> Rule:
        for name in names.split():
            RULES[name] = rule
        return rule

    return add


def static_shape(node: Any, place: int = 0) -> tuple[int, ...] | None:
    """Return the shape of an output as the graph tells it; None if it does not tell all of it."""
    told = node.attr["_output_shapes"].list.shape
    if place >= len(told) or told[place].unknown_rank:
        return None
    sizes = tuple(int(dim.size) for dim in told[place].dim)
    return sizes if all(size >= 0 for size in sizes) else None


def need(met: bool, text: str) -> None:
    """Raise `Unproven` unless something holds."""
    if not met:
        raise Unproven(text)


def rows_of(value: Value, least: int = 0) -> Rows:
    """Return a value that must hold rows with at least so many other axes."""
    if not isinstance(value, Rows) or len(value.dims) < least:
        raise Unproven("rows are needed")
    return value


def sizes_of(value: Value) -> tuple[Size, ...]:
    """Return whole numbers as sizes."""
    if isinstance(value, Sizes):
        return value.entries
    if isinstance(value, Const) and value.value is not None and value.value.ndim < 2:
        return tuple(Size(int(number)) for number in value.value.reshape(-1))
    raise Unproven("whole numbers that are known are needed")


def ints_of(value: Value) -> list[int]:
    """Return whole numbers that are constants."""
    found = [size.known for size in sizes_of(value)]
    if None in found:
        raise Unproven("constant numbers are needed")
    return [number for number in found if number is not None]


def axis_of(value: Value, rank: int) -> int:
    """Return a constant axis of a tensor with `rank` axes, which must not be that of the rows."""
    (axis,) = ints_of(value)
    axis += rank if axis < 0 else 0
    need(0 < axis < rank, "the axis of the rows is reduced or moved")
    return axis


def shape_of(value: Value) -> tuple[Size, ...]:
    """Return the sizes of every axis."""
    if isinstance(value, Rows):
        return (BATCH, *value.dims)
    if isinstance(value, Entries):
        return (Size(1, (_symbol(value.of),)), *value.dims)
    if isinstance(value, Const) and value.shape is not None:
        return tuple(Size(size) for size in value.shape)
    raise Unproven("a shape is not known")


def _symbol(of: Rows) -> str:
    """Return the symbol of the length of a list of entries."""
    if of not in _SYMBOLS:
        (symbol,) = fresh("E").symbols
        _SYMBOLS[of], LISTS[symbol] = symbol, of
    return _SYMBOLS[of]


def broadcast(one: Size, other: Size) -> Size:
    """Return the size of an axis that two tensors share."""
    if one == other or other.known == 1:
        return one
    need(one.known == 1, "sizes do not fit")
    return other


def with_dims(value: Any, dims: tuple[Size, ...]) -> Any:
    """Return rows, or entries of the same list, with other axes."""
    return Rows(dims) if isinstance(value, Rows) else Entries(value.of, dims)


def same_form(value: Any) -> Any:
    """Return a value of the same form, made element by element."""
    if isinstance(value, Flat):
        return Flat(Rows(value.base.dims), value.lying)
    need(isinstance(value, Rows | Entries), "rows are needed")
    return with_dims(value, value.dims)


def quotient(whole: Size, part: Size) -> Size:
    """Return what times `part` is `whole`."""
    symbols = list(whole.symbols)
    for symbol in part.symbols:
        need(symbol in symbols, "sizes do not fit")
        symbols.remove(symbol)
    need(part.factor > 0 and whole.factor % part.factor == 0, "sizes do not fit")
    return Size(whole.factor // part.factor, tuple(symbols))


def told_dims(node: Any) -> tuple[Size, ...]:
    """Return the axes of a row as the graph tells them."""
    told = node.attr["_output_shapes"].list.shape
    sizes = [dim.size for dim in told[0].dim[1:]] if told and not told[0].unknown_rank else [-1]
    need(all(size >= 0 for size in sizes), "a shape is not known")
    return tuple(Size(size) for size in sizes)
