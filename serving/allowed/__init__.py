"""What the graph of a served model may hold, judged before anything of it runs."""

from .assets import INIT_SIGNATURE, feeds, initialisation
from .check import ForbiddenOps, check_graph

__all__ = ["INIT_SIGNATURE", "ForbiddenOps", "check_graph", "feeds", "initialisation"]
