"""Names of signature inputs that TensorFlow would not take: given after saving.

While a function is traced each input is a graph node, whose name must be letters, digits and underscores,
and differ from the others in more than case. A SavedModel has no such rule: there the names of inputs are
keys of a map. So an input such as `Petal length (cm)` is traced as `input_2` and gets its own name in the
file, by which every client then calls it.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

__all__ = ["rename_inputs", "traced_names"]

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def traced_names(names: Iterable[str]) -> dict[str, str]:
    """Return the name that each input is traced under: its own where TensorFlow takes it.

    Example:
        >>> traced_names(["age", "Age", "km/h"])
        {'age': 'age', 'Age': 'input_1', 'km/h': 'input_2'}
    """
    names = list(names)
    taken = {name.lower() for name in names}  # of the names of nodes, TensorFlow compares the lower case
    used: set[str] = set()
    found: dict[str, str] = {}
    for place, name in enumerate(names):
        if _PLAIN.fullmatch(name) and name.lower() not in used:
            used.add(name.lower())
            found[name] = name
            continue
        other = f"input_{place}"
        while other in taken:
            other += "_"
        taken.add(other)
        found[name] = other
    return found


def rename_inputs(path: str, names: Mapping[str, Mapping[str, str]]) -> None:
    """Give inputs of a SavedModel their own names, for sessions and for `tf.saved_model.load` alike.

    Args:
        path: The SavedModel.
        names: Signature -> own name -> name that it was traced under.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    changed = {
        key: {traced: own for own, traced in inputs.items() if own != traced} for key, inputs in names.items()
    }
    if not any(changed.values()):
        return
    message = saved_model_pb2.SavedModel()
    file = os.path.join(path, "saved_model.pb")
    with tf.io.gfile.GFile(file, "rb") as stream:
        message.ParseFromString(stream.read())
    for graph in message.meta_graphs:
        for key, owns in changed.items():
            _rename(graph, key, owns)
    with tf.io.gfile.GFile(file, "wb") as stream:
        stream.write(message.SerializeToString(deterministic=True))
    # It holds the hash of the file as it was; loaders do without it.
    tf.io.gfile.remove(os.path.join(path, "fingerprint.pb"))


def _rename(graph: Any, key: str, owns: Mapping[str, str]) -> None:
    """Rename the inputs of one signature in a meta graph: traced name -> own name."""
    inputs = graph.signature_def[key].inputs
    for traced, own in owns.items():
        inputs[own].CopyFrom(inputs[traced])
        del inputs[traced]
    nodes = graph.object_graph_def.nodes
    (signatures,) = (child for child in nodes[0].children if child.local_name == "signatures")
    (function,) = (child for child in nodes[signatures.node_id].children if child.local_name == key)
    keywords = nodes[function.node_id].bare_concrete_function.argument_keywords
    keywords[:] = [owns.get(name, name) for name in keywords]
