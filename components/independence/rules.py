"""The operators that are known to be row-wise, and what each makes of where the rows are.

An operator that is not here makes a signature unproven, even if nobody looks at what it gives: it may have
other effects.
"""

from . import axes, elements, lists, sums  # noqa: F401 - each adds its rules
from .registry import RULES, static_shape

__all__ = ["RULES", "static_shape"]
