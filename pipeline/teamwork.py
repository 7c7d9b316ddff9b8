"""A step that shares its node's work with others: as their chief, or as one of them."""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator

from headrace.components.team import FOLDER_VARIABLE, ID_VARIABLE, Team

from .config import RunConfig
from .graph import GRAPH
from .store import Store

__all__ = ["leading", "own_team", "work_along"]


def own_team(config: RunConfig, node_id: str, run_id: str) -> Team | None:
    """Return the team that the platform has put this step into, and let the node's own code find it."""
    if not any(node.id == node_id and node.helper for node in GRAPH):
        return None
    os.environ[FOLDER_VARIABLE] = str(Store.of(config).run_dir(run_id) / "workers" / node_id)
    team = Team.from_environment()
    if team is not None:
        os.environ[ID_VARIABLE] = team.id
    return team


@contextlib.contextmanager
def leading(team: Team | None) -> Iterator[Callable[[str], None]]:
    """Be seen by the team while a node runs; give the function to call with the state in which it ended."""
    if team is None:
        yield lambda state: None
        return
    with team.alive():
        yield team.end


def work_along(team: Team, node_id: str) -> str:
    """Do a share of a node's work until its chief ends; return what came of it.

    Raises:
        HeadraceError: If this step has to be tried again, or met an error.
    """
    (node,) = [node for node in GRAPH if node.id == node_id]
    module, _, function = node.helper.partition(":")
    return str(getattr(importlib.import_module(module), function)(team))
