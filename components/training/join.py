"""Several machines that train one model: `MultiWorkerMirroredStrategy`, and the pods that it needs.

All of them fit in step, so all are lost with one; the platform then starts them again, and they go on
from the chief's last whole epoch.
"""

import contextlib
import json
import math
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from headrace.components.node import NodeContext, emit
from headrace.components.team import Team
from headrace.data.errors import EnvironmentProblem, HeadraceError

__all__ = ["WorkerLost", "explained", "gather", "join"]

_POLL_S = 0.2
_WAIT_S = 1800.0
_GRACE_S = 30.0


class WorkerLost(EnvironmentProblem):
    """A machine that trains with others has gone."""


def gather(team: Team, ctx: NodeContext) -> threading.Event:
    """As the chief: call the others, wait for them, and let TensorFlow know where all of them are.

    Returns:
        An event to set once the others are no longer needed: until then this process ends if one is lost.

    Raises:
        EnvironmentProblem: If some do not come.
    """
    work = {
        "config": dict(ctx.config),
        "inputs": {name: list(uris) for name, uris in ctx.inputs.items()},
        "temp_dir": ctx.temp_dir,
    }
    own = _free_address(team)
    team.call(**work)
    emit("phase", text=f"waiting for {team.size - 1} more workers")
    found = team.gather()
    members = {number: str(told["id"]) for number, told in found.items()}
    addresses = [own, *(str(found[number]["address"]) for number in sorted(found))]
    team.call(**work, addresses=addresses, members=members)
    _name_all(team, addresses)
    return _watch(team, members)


def join(team: Team, wait_s: float = _WAIT_S) -> str:
    """Train beside the chief of a team; return what came of it, for people.

    Args:
        team: The team; this process is not its chief.
        wait_s: Longest wait for a chief.

    Raises:
        WorkerLost: If no chief calls, or it fails: the platform should start this worker again, too.
    """
    earlier = team.ended()  # of a try before this one
    with team.alive():
        call = _awaited(_Candidate(team, earlier).taken, wait_s)
        if "state" in call:
            return _concluded(call)
        _train(team, call)
        # The chief still exports: it may fail, and would need this worker for its next try.
        return _concluded(_awaited(lambda: _end_of(team, earlier, call["chief"]), math.inf))


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say in words what TensorFlow raises where another machine is lost.

    Raises:
        WorkerLost: In place of its errors.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise WorkerLost(
            "every worker must stay until the model is trained. "
            f"Received: one is gone ({' '.join(str(error).split())[:200]})",
            "started again, all go on from the last whole epoch",
        ) from error


def _train(team: Team, call: Mapping[str, Any]) -> None:
    from .run import run

    _name_all(team, call["addresses"])
    watched = _watch(team, {0: call["chief"]})
    with tempfile.TemporaryDirectory(prefix="headrace-worker-") as scratch:
        # Whatever this worker had kept of an earlier try, all must go on from one and the same epoch.
        state = Path(call["temp_dir"], "state")
        if state.exists():
            shutil.copytree(state, Path(scratch, f"state-worker-{team.number}"))
        outputs = {name: str(Path(scratch, name)) for name in ("model", "model_run")}
        run(NodeContext("trainer", "", call["inputs"], outputs, call["config"], scratch))
    watched.set()


def _end_since(team: Team, earlier: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what a chief that ended has said; a failure counts only if it is a new one."""
    end = team.ended()
    return None if end is None or (end == earlier and end["state"] == "failed") else end


class _Candidate:
    """A worker that answers every call until one chief has taken it."""

    def __init__(self, team: Team, earlier: Mapping[str, Any] | None) -> None:
        self._team, self._earlier, self._answered = team, earlier, ""

    def taken(self) -> Mapping[str, Any] | None:
        """Return the call of the chief that counts on this very process, or how a chief ended; else None."""
        if (end := _end_since(self._team, self._earlier)) is not None:
            return end
        call = self._team.called()
        if call is None:
            return None
        if self._answered != call["chief"]:
            self._answered = call["chief"]
            self._team.tell(call=call["chief"], address=_free_address(self._team))
        # A chief that was killed is missed only after a while; until then its last call lies there.
        return call if call.get("members", {}).get(str(self._team.number)) == self._team.id else None


def _end_of(team: Team, earlier: Mapping[str, Any] | None, chief: str) -> Mapping[str, Any] | None:
    """Return how the chief ended, or None while it still works.

    Raises:
        WorkerLost: If it has gone without a word.
    """
    call = team.called()
    # In this order: a chief says how it ended before it leaves.
    end = _end_since(team, earlier)
    if end is None and (call is None or call["chief"] != chief):
        raise WorkerLost("the chief must stay until the model is written. Received: it has gone")
    return end


def _concluded(end: Mapping[str, Any]) -> str:
    if end["state"] == "failed":
        raise WorkerLost(
            "the chief must succeed for its workers to do so. Received: it failed", "its log says why"
        )
    return f"the trainer is {end['state']}"


def _awaited(found: Callable[[], Any], wait_s: float) -> Any:
    deadline = time.monotonic() + wait_s
    while not (value := found()):
        if time.monotonic() > deadline:
            raise WorkerLost(f"the chief must call within {wait_s:g} s. Received: nothing")
        time.sleep(_POLL_S)
    return value


def _name_all(team: Team, addresses: list[str]) -> None:
    cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": team.number}}
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    # Collectives go straight from machine to machine.
    hosts = ",".join(address.rpartition(":")[0].strip("[]") for address in addresses)
    os.environ.update({"no_grpc_proxy": hosts})


def _watch(team: Team, members: Mapping[int, str]) -> threading.Event:
    """End this process when another is gone: TensorFlow may wait for it for ever."""

    def lost(number: int) -> None:
        name = "the chief" if number == 0 else f"worker {number}"
        # Most often TensorFlow notices too, and its error ends this process in order.
        time.sleep(_GRACE_S)
        print(f"error: {name} is gone; this step has to start again", file=sys.stderr, flush=True)
        os._exit(HeadraceError.exit_code)

    return team.watch(members, lost)


def _free_address(team: Team) -> str:
    family = socket.AF_INET6 if ":" in team.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((team.host, 0))
        return f"{team.bare_host}:{probe.getsockname()[1]}"
