"""Let a test catch one node of a run at a known point. Python imports this where its folder is on the path.

HEADRACE_FAULT is "NODE POINT FILE". When the node reaches the point, its process id goes into the file, once.
working: the node told of progress and goes on. written: its outputs are whole, and the node waits.
published: the metadata store has them too, and the node waits.
deaf: as published, but the node is not to be stopped, and goes on after a second.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

_WAIT_S = 120


def _reached(flag: Path, wait: bool) -> None:
    if flag.exists():
        return
    scratch = flag.with_suffix(".part")
    scratch.write_text(str(os.getpid()), encoding="utf-8")
    os.replace(scratch, flag)
    if wait:
        time.sleep(_WAIT_S)


def _install(node: str, point: str, flag: Path) -> None:
    from headrace.pipeline import launch

    launch_node, published = launch.launch_node, launch._published

    def caught(config: Any, node_id: str, *args: Any, **kwargs: Any) -> Any:
        if node_id == node:
            _watch()
        return launch_node(config, node_id, *args, **kwargs)

    def _watch() -> None:
        from headrace.components import node as node_module
        from headrace.components.nodes import executor

        record, emit = executor._record, node_module.emit

        def told(kind: str, **values: Any) -> None:
            emit(kind, **values)
            # A training that is caught in its second epoch has something to go on from.
            if kind != "epoch" or values["done"] >= 1:
                _reached(flag, wait=False)

        def recorded(*args: Any) -> None:
            _reached(flag, wait=True)
            record(*args)

        def told_of(*args: Any) -> Any:
            if point == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _reached(flag, wait=point != "deaf")
            time.sleep(1)
            return published(*args)

        if point == "working":
            node_module.emit = told
        elif point == "written":
            executor._record = recorded
        else:
            launch._published = told_of

    launch.launch_node = caught


# Nodes are forked from this one process; the others must stay as they are.
if "HEADRACE_FAULT" in os.environ and any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    _node, _point, _flag = os.environ["HEADRACE_FAULT"].split(" ", 2)
    _install(_node, _point, Path(_flag))
