"""Where operators of assets and checkpoints may stand, in graphs written by hand."""

from typing import Any

import pytest
import tensorflow as tf

from headrace.serving.allowed import ForbiddenOps, check_graph
from tests.serving.graphs import function, meta_graph, node

# Files of a table


def fill(inputs: list[str]) -> Any:
    return node("InitializeTableFromTextFileV2", "fill", inputs)


def with_asset(graph: Any, *tensors: str) -> Any:
    for tensor in tensors:
        graph.asset_file_def.add(filename="words.txt").tensor_info.name = tensor
    return graph


def copied(graph: Any) -> Any:
    """The name goes through copies, a call, a branch and a second call that is given the same."""
    graph.graph_def.node.extend(
        [
            node("Const", "table"),
            node("Placeholder", "file"),
            node("Identity", "copy", ["file"]),
            node("If", "branch", ["table", "table", "copy:0"], then_branch="outer", else_branch="outer"),
            node("outer", "called", ["table", "file", "^branch"]),
            node("NoOp", "start", ["^called"]),
        ]
    )
    call = node("PartitionedCall", "c", ["table", "held:output:0"], f="inner")
    graph.graph_def.library.function.extend(
        [
            function("outer", node("Identity", "held", ["name"]), call, arguments=["table", "name"]),
            function("inner", fill(["table", "name"]), arguments=["table", "name"]),
        ]
    )
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "start"
    return graph


def test_the_name_of_a_file_is_followed_through_calls(tmp_path):
    check_graph(with_asset(copied(meta_graph()), "file:0"), str(tmp_path))


def another_call(graph: Any) -> None:
    graph.graph_def.node.append(node("Const", "other"))
    graph.graph_def.node.append(node("outer", "second", ["table", "other"]))


def another_argument(graph: Any) -> None:
    graph.graph_def.node[3].input[2] = "table"


def too_few_arguments(graph: Any) -> None:
    del graph.graph_def.node[3].input[2]


def a_loop(graph: Any) -> None:
    graph.graph_def.node.append(node("While", "loop", ["table", "file"], cond="outer", body="outer"))


def a_twin(graph: Any) -> None:
    for found in graph.graph_def.library.function:
        found.attr["api_implements"].s = b"both"


def an_argument_of_many(graph: Any) -> None:
    graph.graph_def.library.function[1].signature.input_arg[0].number_attr = "N"


def a_function_given_to_a_function(graph: Any) -> None:
    call = node("PartitionedCall", "given", ["table", "file"], f="outer")
    call.attr["f"].func.attr["g"].func.name = "inner"
    graph.graph_def.node.append(call)


def no_copy(graph: Any) -> None:
    graph.graph_def.node[2].op = "AsString"


def not_at_the_start(graph: Any) -> None:
    del graph.signature_def["__saved_model_init_op"]


def in_an_answer_as_well(graph: Any) -> None:
    graph.signature_def["serving_default"].outputs["y"].name = "called:0"


def in_an_answer_by_its_parts(graph: Any) -> None:
    outputs = graph.signature_def["serving_default"].outputs
    outputs["y"].composite_tensor.components.add().coo_sparse.values_tensor_name = "called:0"


def in_the_restoring(graph: Any) -> None:
    graph.saver_def.restore_op_name = "called"


CHANGES = [
    another_call, another_argument, too_few_arguments, a_loop, a_twin, an_argument_of_many,
    a_function_given_to_a_function, no_copy, not_at_the_start, in_an_answer_as_well,
    in_an_answer_by_its_parts, in_the_restoring,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_of_a_table_that_may_be_another_is_refused(change, tmp_path):
    graph = with_asset(copied(meta_graph()), "file")
    change(graph)
    with pytest.raises(ForbiddenOps, match=r"Received: InitializeTableFromTextFileV2 \("):
        check_graph(graph, str(tmp_path))


def filled_in_answers() -> Any:
    """A graph of tf.Transform inside an answer fills its table there, of the file that a variable holds."""
    graph = meta_graph(
        node("Const", "table"),
        node("Placeholder", "file"),
        node("VarHandleOp", "kept"),
        node("AssignVariableOp", "keep", ["kept", "file"]),
        node("VarIsInitializedOp", "asked", ["kept:0"]),
        node("ReadVariableOp", "read", ["kept", "^keep"]),
        node("PartitionedCall", "start", ["table", "read"], f="inner"),
        node("ReadVariableOp", "again", ["kept"]),
        node("PartitionedCall", "answer", ["table", "again"], f="inner"),
        functions=[function("inner", fill(["table", "name"]), arguments=["table", "name"])],
        start="start",
    )
    graph.signature_def["serving_default"].outputs["y"].name = "answer:0"
    return with_asset(graph, "file")


def test_a_table_may_be_filled_in_answers_of_a_file_that_a_variable_holds(tmp_path):
    check_graph(filled_in_answers(), str(tmp_path))


def more(*nodes: Any) -> Any:
    return lambda graph: graph.graph_def.node.extend(nodes)


def second_handle(graph: Any) -> None:
    graph.graph_def.node.append(node("VarHandleOp", "other"))
    graph.graph_def.node[-1].attr["shared_name"].s = b"kept"


def second_handle_in_a_function(graph: Any) -> None:
    graph.graph_def.library.function[0].node_def.append(node("VarHandleOp", "kept"))


def given_in_the_answer(graph: Any) -> None:
    graph.graph_def.node[-1].input[1] = "file"


def another_asset(graph: Any) -> None:
    graph.graph_def.node[3].input[1] = "table"


HOLDS = {
    "written by another": more(node("AssignVariableOp", "late", ["kept", "table"])),
    "written twice": more(node("AssignVariableOp", "late", ["kept", "file"])),
    "given to a call": more(node("PartitionedCall", "late", ["kept", "table"], f="inner")),
    "restored": more(node("Identity", "late", ["kept:0"])),
    "second handle": second_handle,
    "second handle in a function": second_handle_in_a_function,
    "unfed file": given_in_the_answer,
    "no asset": another_asset,
}


@pytest.mark.parametrize("change", HOLDS)
def test_a_variable_that_may_hold_another_file_fills_no_table_in_answers(change, tmp_path):
    graph = filled_in_answers()
    HOLDS[change](graph)
    with pytest.raises(ForbiddenOps, match=r"Received: InitializeTableFromTextFileV2 \("):
        check_graph(graph, str(tmp_path))


CALLS = ["PartitionedCall:f", "StatefulPartitionedCall:f", "If:then_branch", "If:else_branch"]
CALLS += ["StatelessIf:then_branch", "StatelessIf:else_branch", "Case:branches", "StatelessCase:branches"]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_gives_its_inputs_in_its_own_order(call, tmp_path):
    """The first input of a branch chooses it; the others are the arguments."""
    op, _, attribute = call.partition(":")
    given = ["table", "file"] if op.endswith("Call") else ["table", "table", "file"]
    made = node(op, "called", given)
    if attribute == "branches":
        made.attr[attribute].list.func.add(name="inner")
    else:
        made.attr[attribute].func.name = "inner"
    inner = function("inner", fill(["table", "name"]), arguments=["table", "name"])
    graph = meta_graph(
        node("Const", "table"), node("Placeholder", "file"), made, functions=[inner], start="called"
    )
    check_graph(with_asset(graph, "file"), str(tmp_path))


def test_assets_of_v1_count_where_there_are_no_others(tmp_path):
    graph = with_asset(copied(meta_graph()), "file")
    graph.collection_def["saved_model_assets"].SetInParent()
    check_graph(graph, str(tmp_path))
    packed = graph.collection_def["saved_model_assets"].any_list.value.add()
    packed.Pack(graph.asset_file_def[0])
    del graph.asset_file_def[:]
    check_graph(graph, str(tmp_path))


def test_functions_that_nothing_calls_are_taken_out_with_their_gradients(tmp_path):
    functions = [function("used"), function("slope"), function("lonely", node("SaveV2")), function("steep")]
    graph = meta_graph(node("PartitionedCall", "c", f="used"), functions=functions)
    library = graph.graph_def.library
    library.gradient.add(function_name="used", gradient_func="slope")
    library.gradient.add(function_name="lonely", gradient_func="steep")
    check_graph(graph, str(tmp_path))
    assert [found.signature.name for found in library.function] == ["used", "slope"]
    assert [found.function_name for found in library.gradient] == ["used"]


@pytest.mark.parametrize(
    ("count", "end"), [(10, "unknown9 (not known) ("), (12, "unknown7 (not known) and 2 more (")]
)
def test_of_many_operators_some_are_named(count, end, tmp_path):
    graph = meta_graph(*(node(f"unknown{number}", f"n{number}") for number in range(count)))
    with pytest.raises(ForbiddenOps) as caught:
        check_graph(graph, str(tmp_path))
    assert end in caught.value.message


def test_a_function_that_calls_itself_ends_the_search(tmp_path):
    graph = with_asset(copied(meta_graph()), "file")
    inner = graph.graph_def.library.function[1]
    inner.node_def.append(node("inner", "again", ["table", "name"]))
    check_graph(graph, str(tmp_path))
    inner.node_def[1].input[1] = "again:output:0"
    with pytest.raises(ForbiddenOps, match=r"Received: InitializeTableFromTextFileV2 \("):
        check_graph(graph, str(tmp_path))


def test_only_functions_of_the_model_are_called(tmp_path):
    graph = meta_graph(node("PartitionedCall", "c", f="ReadFile"))
    with pytest.raises(ForbiddenOps, match=r"ReadFile \(is called, but no function of the model\)"):
        check_graph(graph, str(tmp_path))


# Checkpoints


def saved(*more: Any) -> Any:
    """A graph with a saver as TensorFlow writes it: prefix -> save, prefix -> restore."""
    graph = meta_graph(
        node("Placeholder", "prefix"),
        node("Const", "names"),
        node("SaveV2", "save", ["prefix", "names"]),
        node("MergeV2Checkpoints", "merge", ["prefix", "prefix", "^save"]),
        node("Identity", "saved", ["prefix", "^merge"]),
        node("RestoreV2", "restore", ["prefix", "names", "names"]),
        node("NoOp", "restored", ["^restore"]),
        node("Const", "y"),
        *more,
        answer="y",
    )
    saver = graph.saver_def
    saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name = (
        "prefix",
        "saved:0",
        "restored",
    )
    return graph


def test_a_saver_keeps_its_operators(tmp_path):
    check_graph(saved(), str(tmp_path))


def restored_from_elsewhere(graph: Any) -> None:
    graph.graph_def.node[5].input[0] = "names"


def restored_at_the_start(graph: Any) -> None:
    graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "restored"


def restored_in_an_answer(graph: Any) -> None:
    graph.signature_def["serving_default"].outputs["y"].name = "restore:0"


def restored_by_nobody(graph: Any) -> None:
    graph.saver_def.restore_op_name = "y"


@pytest.mark.parametrize(
    "change", [restored_from_elsewhere, restored_at_the_start, restored_in_an_answer, restored_by_nobody]
)
def test_a_checkpoint_is_read_by_the_saver_alone(change, tmp_path):
    graph = saved()
    change(graph)
    with pytest.raises(ForbiddenOps, match=r"Received: RestoreV2 \(read and write checkpoints, outside"):
        check_graph(graph, str(tmp_path))


def saved_at_the_start(graph: Any) -> None:
    graph.collection_def["saved_model_main_op"].node_list.value.append("saved")


def saved_at_the_start_of_v1(graph: Any) -> None:
    graph.collection_def["legacy_init_op"].node_list.value.append("saved")


def saved_in_an_answer(graph: Any) -> None:
    graph.signature_def["serving_default"].outputs["y"].name = "saved:0"


def saved_while_restoring(graph: Any) -> None:
    graph.graph_def.node[6].input.append("^saved")


def saved_by_nobody(graph: Any) -> None:
    graph.saver_def.save_tensor_name = "y:0"


@pytest.mark.parametrize(
    "change",
    [
        saved_at_the_start,
        saved_at_the_start_of_v1,
        saved_in_an_answer,
        saved_while_restoring,
        saved_by_nobody,
    ],
)
def test_a_checkpoint_is_written_by_nobody(change, tmp_path):
    graph = saved()
    change(graph)
    with pytest.raises(ForbiddenOps, match=r"Received: MergeV2Checkpoints \(.*, SaveV2 \("):
        check_graph(graph, str(tmp_path))


# Attributes


def with_text(op: str, attribute: str, value: bytes | None) -> Any:
    made = node(op)
    if value is None:
        made.attr[attribute].placeholder = "given"
    else:
        made.attr[attribute].s = value
    if op.endswith("Call"):
        made.attr["f"].func.name = "f"
    return meta_graph(made, functions=[function("f")])


ADDRESSED = tf.compat.v1.ConfigProto()
ADDRESSED.cluster_def.job.add(name="worker").tasks[0] = "example.org:2222"
REMOTE = tf.compat.v1.ConfigProto()
REMOTE.rpc_options.use_rpc_for_inprocess_master = True
STOCK = tf.compat.v1.ConfigProto(device_count={"CPU": 1, "GPU": 0}, allow_soft_placement=True)


@pytest.mark.parametrize(
    ("op", "attribute", "value", "good"),
    [
        ("PrintV2", "output_stream", b"stderr", True),
        ("PrintV2", "output_stream", b"log(info)", True),
        ("PrintV2", "output_stream", b"file:///tmp/x", False),
        ("PrintV2", "output_stream", None, False),
        ("DecodeProtoV2", "descriptor_source", b"local://", True),
        ("DecodeProtoV2", "descriptor_source", b"bytes://\x0a\x00", True),
        ("EncodeProto", "descriptor_source", b"", True),
        ("EncodeProto", "descriptor_source", b"/etc/passwd", False),
        ("FixedUnigramCandidateSampler", "vocab_file", b"", True),
        ("FixedUnigramCandidateSampler", "vocab_file", b"x", False),
        ("PartitionedCall", "config_proto", STOCK.SerializeToString(deterministic=True), True),
        ("PartitionedCall", "config_proto", ADDRESSED.SerializeToString(deterministic=True), False),
        ("StatefulPartitionedCall", "config_proto", REMOTE.SerializeToString(deterministic=True), False),
        ("StatefulPartitionedCall", "config_proto", b"\xff", False),
        ("StatefulPartitionedCall", "config", b"", True),
        ("StatefulPartitionedCall", "config", b"x", False),
    ],
)
def test_attributes_that_can_name_files_or_addresses(op, attribute, value, good, tmp_path):
    graph = with_text(op, attribute, value)
    if good:
        check_graph(graph, str(tmp_path))
    else:
        with pytest.raises(ForbiddenOps, match=rf"Received: {op}.{attribute} \(names a file or an address\)"):
            check_graph(graph, str(tmp_path))
        check_graph(with_text(op, attribute, value), str(tmp_path), [f"{op}.{attribute}"])
