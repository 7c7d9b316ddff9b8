"""The committed list of operators against those that TensorFlow registers."""

import json
import subprocess
import sys
from typing import Any

import pytest

from headrace.serving.allowed import ForbiddenOps, check_graph
from headrace.serving.allowed.attributes import JUDGED
from headrace.serving.allowed.table import operators, parsed
from tests.serving.graphs import function, meta_graph, node

# Names within the session's own resources, devices, steps and messages.
OWN_NAMES = [
    "container", "shared_name", "debug_name", "tensor_array_name", "stack_name", "var_name", "frame_name",
    "source", "allowed_devices", "device_names", "executor_type", "message", "end",
]  # fmt: skip
# Names of keys, fields and columns.
KEYS = [
    "context_dense_keys", "context_sparse_keys", "dense_keys", "sparse_keys", "feature_list_dense_keys",
    "feature_list_dense_missing_assumed_empty", "feature_list_sparse_keys", "field_names", "message_type",
    "labels", "display_name", "description",
]  # fmt: skip
# Patterns, texts that are put in, and layouts.
TEXTS = [
    "pattern", "rewrite", "template", "placeholder", "separator", "left_pad", "right_pad", "fill",
    "delimiter", "field_delim", "na_value", "equation", "metadata", "xmp_metadata", "data_format",
    "src_format", "dst_format", "dimension_numbers", "input_order", "row_partition_types",
]  # fmt: skip
# One of a few words.
CHOICES = [
    "align", "bad_indices_policy", "compression_type", "dct_method", "density_unit", "direction", "encoding",
    "errors", "fill_mode", "format", "input_encoding", "input_mode", "input_quant_mode", "interpolation",
    "kernel_type", "message_format", "method", "mode", "noise", "output_encoding", "padding", "rnn_mode",
    "round_mode", "set_operation", "split_type", "unit",
]  # fmt: skip
PLAIN = {*OWN_NAMES, *KEYS, *TEXTS, *CHOICES}
"""Attributes of text that name neither file nor address, whatever they say."""

# Operators of other libraries join the registry when these are imported, so a fresh process tells.
# `TF_GetAllOpList` is of the C API, but of no public module of Python: of tensorflow 2.21.
REGISTERED = """
import json
from tensorflow.core.framework import op_def_pb2
from tensorflow.python.client import pywrap_tf_session as c
found = op_def_pb2.OpList.FromString(c.TF_GetBuffer(c.TF_GetAllOpList()))
texts = ("string", "list(string)")
print(json.dumps({op.name: [a.name for a in op.attr if a.type in texts] for op in found.op}))
"""


@pytest.fixture(scope="module")
def registered() -> dict[str, list[str]]:
    """Every operator of TensorFlow, with its attributes of text."""
    done = subprocess.run([sys.executable, "-c", REGISTERED], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 1800
    return found


def test_every_operator_of_tensorflow_is_on_the_list(registered):
    """If this fails after an upgrade: look at the kernels of what is new, as the head of ops.txt says."""
    assert set(registered) - set(operators()) == set(), "new operators that nobody has looked at"
    assert set(operators()) - set(registered) == set(), "operators that are gone"


def test_every_text_of_an_allowed_operator_is_judged_or_plain(registered):
    texts = {(op, name) for op, names in registered.items() for name in names}
    allowed = {(op, name) for op, name in texts if operators()[op].verdict != "refuse"}
    assert {(op, name) for op, name in allowed if name not in PLAIN} == set(JUDGED)
    assert {name for _, name in allowed} - {name for _, name in JUDGED} == PLAIN


@pytest.mark.parametrize(
    ("op", "verdict"),
    [
        ("MatMul", "allow"),
        ("LookupTableFindV2", "allow"),
        ("VarHandleOp", "allow"),
        ("ParseExampleV2", "allow"),
        ("DecodeImage", "allow"),
        ("RestoreV2", "saver"),
        ("SaveV2", "saver"),
        ("MergeV2Checkpoints", "saver"),
        ("InitializeTableFromTextFileV2", "asset"),
        # Registered as stateless, all of them:
        ("ReadFile", "refuse"),
        ("ImmutableConst", "refuse"),
        ("Abort", "refuse"),
        ("SnapshotDatasetV2", "refuse"),
        ("MatchingFiles", "refuse"),
        ("CacheDatasetV2", "refuse"),
        ("DebugIdentityV3", "refuse"),
        ("EagerPyFunc", "refuse"),
        ("XlaCustomCallV2", "refuse"),
        ("RemoteCall", "refuse"),
        ("BatchFunction", "refuse"),
    ],
)
def test_what_the_list_says(op, verdict):
    assert operators()[op].verdict == verdict


def in_the_graph(made: Any) -> Any:
    return meta_graph(made, answer="n")


def unreached(made: Any) -> Any:
    return meta_graph(made, node("Const", "c"), answer="c")


def at_start(made: Any) -> Any:
    return meta_graph(made, node("NoOp", "start", ["^n"]), start="start")


def in_a_nested_call(made: Any) -> Any:
    inner = function("inner", made)
    outer = function("outer", node("StatefulPartitionedCall", "c", f="inner"))
    return meta_graph(node("PartitionedCall", "c", f="outer"), functions=[outer, inner], answer="c")


def in_a_loop(made: Any) -> Any:
    loop = node("While", "w", cond="cond", body="body")
    return meta_graph(loop, functions=[function("cond"), function("body", made)], answer="w")


def in_a_branch(made: Any) -> Any:
    branches = [function("yes"), function("no", node("older", "c")), function("older", made)]
    return meta_graph(node("If", "i", then_branch="yes", else_branch="no"), functions=branches, answer="i")


def in_a_list_of_branches(made: Any) -> Any:
    case = node("Case", "i")
    case.attr["branches"].list.func.add(name="one")
    return meta_graph(case, functions=[function("one", made)], answer="i")


def in_a_function_that_nothing_calls(made: Any) -> Any:
    return meta_graph(node("Const", "c"), functions=[function("lonely", made)], answer="c")


EVERYWHERE = [
    in_the_graph, unreached, at_start, in_a_nested_call, in_a_loop, in_a_branch, in_a_list_of_branches,
    in_a_function_that_nothing_calls,
]  # fmt: skip


@pytest.mark.parametrize("place", EVERYWHERE)
def test_every_operator_is_allowed_or_refused_wherever_it_stands(registered, place, tmp_path):
    for op in [*registered, "OfAnotherLibrary"]:
        entry = operators().get(op)
        # A function that nothing calls is not loaded, so what may stand in some places may stand in it.
        spared = entry is not None and entry.verdict != "refuse" and place is in_a_function_that_nothing_calls
        if spared or (entry is not None and entry.verdict == "allow"):
            check_graph(place(node(op)), str(tmp_path))
        else:
            with pytest.raises(ForbiddenOps, match=rf"Received: {op} \("):
                check_graph(place(node(op)), str(tmp_path))
            check_graph(place(node(op)), str(tmp_path), [op])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Add"], "once, below a heading. Received: Add"),
        (["[allow numbers] sums", "Add", "Add"], "once, below a heading. Received: Add"),
        (["[perhaps numbers] sums"], r"\[VERDICT GROUP\] reason. Received: \[perhaps"),
        (["[allow] sums"], r"\[VERDICT GROUP\] reason. Received: \[allow\]"),
    ],
)
def test_a_list_that_cannot_be_read(lines, message):
    with pytest.raises(ValueError, match=message):
        parsed(lines)
