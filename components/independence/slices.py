"""`StridedSlice` on sizes: which axes are left, and how large they are."""

from collections.abc import Sequence
from typing import Any

from .values import Size, Unproven, fresh

__all__ = ["sliced"]


def sliced(
    sizes: Sequence[Size], node: Any, bounds: Sequence[Sequence[int]], pick: Sequence[Size] | None = None
) -> list[Size]:
    """Return the sizes of the result.

    Args:
        sizes: Of every axis; of the first, the rows, only the whole is taken unless `pick` is given.
        node: The operator, for its masks.
        bounds: Begin, end and stride of every part of the slice.
        pick: For a vector: its entries, of which the chosen ones are returned instead.

    Raises:
        Unproven: If a part of an axis is taken whose size is not known in advance.
    """
    masks = {
        name: node.attr[f"{name}_mask"].i for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    count = len(bounds[0])
    used = sum(not (masks["new_axis"] | masks["ellipsis"]) >> place & 1 for place in range(count))
    found: list[Size] = []
    axis = 0
    for place in range(count):
        on = {name for name, mask in masks.items() if mask >> place & 1}
        if pick is not None and on & {"ellipsis", "new_axis"}:
            raise Unproven("sizes are put into another form")
        if "ellipsis" in on:
            found += sizes[axis : axis + len(sizes) - used]
            axis += len(sizes) - used
        elif "new_axis" in on:
            found.append(Size(1))
        else:
            begin, end, stride = (bound[place] for bound in bounds)
            part = slice(None if "begin" in on else begin, None if "end" in on else end, stride)
            if pick is not None:
                return [pick[begin]] if "shrink_axis" in on else list(pick[part])
            if "shrink_axis" in on:
                _check_element(sizes[axis], begin)
            else:
                found.append(_length(sizes[axis], part))
            axis += 1
    return [*found, *sizes[axis:]]


def _check_element(size: Size, begin: int) -> None:
    """Of an axis whose size depends on other rows only elements counted from its start stay the same."""
    if not size.steady and (begin < 0 or "N" in size.symbols):
        raise Unproven("an element is counted from an end that depends on other rows")


def _length(size: Size, part: slice) -> Size:
    if part in (slice(None, None, 1), slice(0, None, 1)):
        return size
    if size.known is not None:
        return Size(len(range(*part.indices(size.known))))
    if not size.steady:
        raise Unproven("a part of an axis is taken whose size depends on other rows")
    return fresh("S")
