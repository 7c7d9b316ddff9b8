"""Heavy modules that every node needs, imported once in the forkserver.

TensorFlow is imported and never initialised: a fork of an initialised one would hang.
"""

import contextlib
import importlib

with contextlib.suppress(ImportError):
    for _name in (
        "tensorflow",
        "tfx.orchestration.local.runner_utils",
        "tfx.orchestration.portable.launcher",
        "headrace.pipeline.dag",
        "headrace.pipeline.launch",
    ):
        importlib.import_module(_name)

    # Their own hashes, which every child needs; what is imported here is what they stand for.
    from headrace.pipeline.graph import GRAPH
    from headrace.pipeline.identity import node_sources

    for _node in GRAPH:
        node_sources(_node)
