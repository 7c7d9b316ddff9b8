"""Which compressed variants came out larger than what they were made of."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["larger_than_float32"]


def larger_than_float32(variants: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return each compressed variant whose files take up more bytes than float32's of the same runtime.

    Args:
        variants: Entries as in variants.json; those without a size are left out.

    Returns:
        Name -> name of the float32 variant that is smaller.
    """
    sizes = {str(entry["name"]): size for entry in variants if (size := entry.get("size_bytes"))}
    found = {}
    for name, size in sizes.items():
        whole = "tflite_float32" if name.startswith("tflite_") else "float32"
        if name != whole and size > sizes.get(whole, size):
            found[name] = whole
    return found
