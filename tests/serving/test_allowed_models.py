"""Models that must load, and models that reach out of their folder, which must not."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tfx

from headrace.serving import session as session_module
from headrace.serving.allowed import ForbiddenOps, check_graph
from headrace.serving.client import SavedModelClient
from headrace.serving.session import SessionModel
from tests.serving import client_models
from tests.serving.graphs import Edit, edit

TEXTS = tf.TensorSpec([None], tf.string, name="texts")
SECRET = "a secret"
TFX_MODELS = Path(tfx.__file__).parent / "components/testdata/trainer"

v1 = tf.compat.v1
layers = keras.layers


def save(path: Path, answer: Any, *specs: tf.TensorSpec, **held: Any) -> str:
    module = tf.Module()
    for name, value in held.items():
        setattr(module, name, value)
    tf.saved_model.save(
        module, str(path), signatures=tf.function(answer, input_signature=specs or (TEXTS,), autograph=False)
    )
    return str(path)


def table(file: Any) -> Any:
    """A table of the lines of `file`, a path or a tensor."""
    whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
    lines = tf.lookup.TextFileInitializer(file, tf.string, whole, tf.int64, number)
    return tf.lookup.StaticHashTable(lines, -1)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A vocabulary that is gone once the model is saved."""
    file = tmp_path / "words.txt"
    file.write_text("a\nb\nc\n")
    return file


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret.txt"
    file.write_text(f"{SECRET}\n")
    return file


# What must load


@pytest.mark.parametrize(
    "made",
    [
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Flatten()],
        [keras.Input((None, 3)), layers.Masking(), layers.LSTM(2)],
        [keras.Input((None, 3)), layers.Bidirectional(layers.GRU(2, return_sequences=True))],
        [keras.Input((8, 8, 3)), layers.RandomFlip(), layers.RandomRotation(0.1), layers.Resizing(4, 4)],
    ],
    ids=["cnn", "lstm", "gru", "augmented"],
)
def test_what_keras_exports_loads(made, tmp_path):
    model = keras.Sequential(made)
    model.export(tmp_path / "m", verbose=False)
    rows = np.ones([2, *(4 if size is None else size for size in model.input_shape[1:])], np.float32)
    with SessionModel.load(str(tmp_path / "m")) as session:
        (name,) = session.signatures["serving_default"].inputs
        (found,) = session.run("serving_default", {name: rows}).values()
    np.testing.assert_allclose(found, model(rows), atol=1e-5)


def test_tables_of_words_load_from_their_assets(words, tmp_path):
    model = keras.Sequential([keras.Input((1,), dtype="string"), layers.StringLookup(vocabulary=str(words))])
    model.export(tmp_path / "keras", verbose=False)
    held = table(str(words))
    save(tmp_path / "plain", lambda texts: {"y": held.lookup(texts)}, table=held)
    words.unlink()
    moved = (tmp_path / "plain").rename(tmp_path / "moved")
    with SessionModel.load(str(tmp_path / "keras")) as session:
        (name,) = session.signatures["serving_default"].inputs
        (found,) = session.run("serving_default", {name: [["b"], ["z"]]}).values()
    assert found.tolist() == [[2], [0]]
    with SessionModel.load(str(moved)) as session:
        assert session.run("serving_default", {"texts": ["b", "z"]})["y"].tolist() == [1, -1]


def test_a_table_that_is_filled_in_answers_loads_from_its_asset(words, tmp_path):
    """Graphs of tf.Transform with tables of texts do so: the file's name is read of a variable each time."""
    file = tf.saved_model.Asset(str(words))

    def answer(texts: Any) -> dict[str, Any]:
        made = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="filled")
        filled = tf.raw_ops.InitializeTableFromTextFileV2(
            table_handle=made, filename=file.asset_path, key_index=-2, value_index=-1, vocab_size=-1
        )
        with tf.control_dependencies([filled] if filled is not None else []):
            none = tf.constant(-1, tf.int64)
            return {"y": tf.raw_ops.LookupTableFindV2(table_handle=made, keys=texts, default_value=none)}

    save(tmp_path / "m", answer, file=file)
    words.unlink()
    moved = (tmp_path / "m").rename(tmp_path / "moved")
    with SessionModel.load(str(moved)) as session:
        for _ in range(2):
            assert session.run("serving_default", {"texts": ["b", "z"]})["y"].tolist() == [1, -1]


def test_tables_of_v1_load_from_their_assets(words, tmp_path):
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        file = tf.constant(str(words))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, file)
        texts = v1.placeholder(tf.string, [None], name="texts")
        found = table(file).lookup(texts)
        weight = v1.get_variable("weight", initializer=2.0, use_resource=False)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(tmp_path / "m"))
        make = v1.saved_model.predict_signature_def
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": make({"texts": texts}, {"y": found, "weight": weight})},
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
            main_op=v1.tables_initializer(),
        )
        builder.save()
    words.unlink()
    with SessionModel.load(str(tmp_path / "m")) as session:
        answer = session.run("serving_default", {"texts": ["c"]})
    assert (answer["y"].tolist(), answer["weight"].tolist()) == ([2], 2.0)


@pytest.mark.parametrize(
    "name", ["keras/Format-Serving", "current/Format-Serving/export/chicago-taxi/1646034756"]
)
def test_models_of_stock_tfx_with_a_transform_of_vocabularies_load(name):
    """By Keras, and by an estimator whose graph of tf.Transform looks up vocabularies."""
    with SessionModel.load(str(TFX_MODELS / name)) as session:
        signature = session.signatures["serving_default"]
        (tensor,) = signature.inputs
        measures = ["culmen_length_mm", "culmen_depth_mm", "flipper_length_mm", "body_mass_g", "trip_miles"]
        number = tf.train.Feature(float_list=tf.train.FloatList(value=[2.0]))
        text = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"Blue Ribbon Taxi"]))
        features = {**dict.fromkeys(measures, number), "company": text}
        row = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
        found = session.run("serving_default", {tensor: [row]})
    assert set(found) == set(signature.outputs)


def test_resources_of_one_name_are_not_shared_between_models(tmp_path):
    """`shared_name` and `container` are no address: each session has resources of its own."""

    def held(value: float) -> str:
        def answer(x: Any) -> dict[str, Any]:
            handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="mine", container="all")
            kept = tf.raw_ops.VarIsInitializedOp(resource=handle)
            with tf.control_dependencies([kept]):
                tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value))
            return {"kept": kept, "x": x}

        return save(tmp_path / str(value), answer, tf.TensorSpec([], tf.float32, name="x"))

    with SessionModel.load(held(1.0)) as first, SessionModel.load(held(2.0)) as second:
        runs = [model.run("serving_default", {"x": 0.0})["kept"].item() for model in (first, first, second)]
    assert runs == [False, True, False]


# What must not load


def reading(texts: Any) -> Any:
    return tf.io.read_file(texts[0])


def immutable(texts: Any) -> Any:
    return tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[4], memory_region_name="/etc/passwd")


def aborting(texts: Any) -> Any:
    return tf.raw_ops.Abort(error_msg="gone", exit_without_error=True)


def filling(texts: Any) -> Any:
    made = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="t")
    tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=made, filename=texts[0], key_index=-2, value_index=-1, vocab_size=-1
    )
    return tf.raw_ops.LookupTableExportV2(table_handle=made, Tkeys=tf.string, Tvalues=tf.int64)[0]


def restoring(texts: Any) -> Any:
    return tf.raw_ops.RestoreV2(
        prefix=texts[0], tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0]


def writing(texts: Any) -> Any:
    return tf.raw_ops.SaveV2(prefix=texts[0], tensor_names=["a"], shape_and_slices=[""], tensors=[texts])


def merging(texts: Any) -> Any:
    return tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=texts, destination_prefix=texts[0])


def cached(texts: Any) -> Any:
    rows = tf.data.Dataset.range(3).cache("kept").batch(3)
    return rows.reduce(tf.constant(0, tf.int64), lambda total, found: total + tf.reduce_sum(found))


def printing(texts: Any) -> Any:
    return tf.print(texts, output_stream="file:///tmp/absent/x")


def decoding(texts: Any) -> Any:
    return tf.io.decode_proto(texts, "A", ["a"], [tf.int32], descriptor_source="/etc/passwd").values[0]


def sampling(texts: Any) -> Any:
    return tf.random.fixed_unigram_candidate_sampler(
        tf.zeros([1, 1], tf.int64), 1, 1, True, 4, vocab_file="/etc/passwd"
    )[0]


ATTACKS: dict[str, Callable[[Any], Any]] = {
    "ReadFile": reading,
    "ImmutableConst": immutable,
    "Abort": aborting,
    "InitializeTableFromTextFileV2": filling,
    "RestoreV2": restoring,
    "SaveV2": writing,
    "MergeV2Checkpoints": merging,
    "CacheDatasetV2": cached,
    "PrintV2.output_stream": printing,
    "DecodeProtoV2.descriptor_source": decoding,
    "FixedUnigramCandidateSampler.vocab_file": sampling,
}
"""What is refused -> what a signature does."""


def done(attack: Any, texts: Any) -> Any:
    with tf.control_dependencies([step for step in [attack(texts)] if step is not None]):
        return tf.constant(1)


def nested(attack: Any, texts: Any) -> Any:
    inner = tf.function(lambda given: done(attack, given), autograph=False)
    return tf.function(lambda given: inner(given), autograph=False)(texts)


def branched(attack: Any, texts: Any) -> Any:
    return tf.cond(tf.size(texts) > 0, lambda: done(attack, texts), lambda: tf.constant(0))


def looped(attack: Any, texts: Any) -> Any:
    return tf.while_loop(
        lambda count: count < 1, lambda count: count + done(attack, texts), [tf.constant(0)]
    )[0]


@pytest.mark.parametrize("place", [done, nested, branched, looped])
@pytest.mark.parametrize("refused", ATTACKS)
def test_what_reaches_out_is_refused_in_a_signature(refused, place, tmp_path):
    path = save(tmp_path / "m", lambda texts: {"y": place(ATTACKS[refused], texts)})
    with pytest.raises(ForbiddenOps, match=rf"(Received: |, ){refused} \("):
        SessionModel.load(path)


@pytest.mark.parametrize("refused", ATTACKS)
def test_what_reaches_out_is_refused_at_the_start(refused, tmp_path):
    """A resource's initialiser runs when a model is loaded, before anybody asks it."""

    class Starter(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64, shared_name="s")

        def _initialize(self) -> None:
            ATTACKS[refused](tf.constant([str(tmp_path / "made")]))

    path = save(tmp_path / "m", lambda texts: {"y": texts}, started=_started(Starter))
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ForbiddenOps, match=rf"(Received: |, ){refused} \("):
        SessionModel.load(path)
    assert sorted(os.listdir(tmp_path)) == before


def _started(kind: Any) -> Any:
    """Make a resource without running its initialiser here."""
    made = kind()
    _ = made.resource_handle
    return made


def test_a_file_that_a_request_names_is_not_read(secret, tmp_path):
    """Until this list, one request got the lines of any file of the machine."""
    path = save(tmp_path / "m", lambda texts: {"y": filling(texts)})
    with pytest.raises(ForbiddenOps, match="InitializeTableFromTextFileV2"):
        SessionModel.load(path)
    with SessionModel.load(path, allow_ops=["InitializeTableFromTextFileV2"]) as model:
        assert model.run("serving_default", {"texts": [str(secret)]})["y"].tolist() == [SECRET.encode()]


def test_the_graph_that_was_checked_is_the_one_that_is_loaded(tmp_path, monkeypatch):
    """A file that is replaced after the check is not read again."""
    path = save(tmp_path / "m", lambda texts: {"y": texts})

    def replaced(*arguments: Any) -> None:
        check_graph(*arguments)
        Path(path, "saved_model.pb").write_bytes(b"something else")

    monkeypatch.setattr(session_module, "check_graph", replaced)
    with SessionModel.load(path) as model:
        assert model.run("serving_default", {"texts": ["a"]})["y"].tolist() == [b"a"]


# Files of a table


def rename_asset(name: str) -> Edit:
    def change(graph: Any) -> None:
        graph.asset_file_def[0].filename = name

    return change


@pytest.fixture
def worded(words: Path, tmp_path: Path) -> str:
    held = table(str(words))
    return save(tmp_path / "m", lambda texts: {"y": held.lookup(texts)}, table=held)


@pytest.mark.parametrize(
    "name", ["../../secret.txt", "a/../../../secret.txt", "{secret}", "..", "", "s3://b/k"]
)
def test_an_asset_outside_the_folder_is_refused(worded, secret, name):
    edit(worded, rename_asset(name.format(secret=secret)))
    with pytest.raises(ForbiddenOps, match=r"every file of a model must lie in its folder. Received: "):
        SessionModel.load(worded)


def test_an_asset_that_is_a_link_out_of_the_folder_is_refused(worded, secret):
    asset = Path(worded, "assets/words.txt")
    asset.unlink()
    asset.symlink_to(secret)
    with pytest.raises(ForbiddenOps, match=r"lie in its folder. Received: assets/words.txt"):
        SessionModel.load(worded)


def test_a_folder_of_assets_that_is_a_link_is_refused(worded, tmp_path):
    shutil.move(Path(worded, "assets"), tmp_path / "elsewhere")
    Path(worded, "assets").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ForbiddenOps, match=r"lie in its folder. Received: assets"):
        SessionModel.load(worded)


def test_links_within_the_folder_and_to_it_are_followed(worded, tmp_path):
    asset = Path(worded, "assets/words.txt")
    asset.rename(Path(worded, "words"))
    asset.symlink_to("../words")
    (tmp_path / "linked").symlink_to(worded)
    with SessionModel.load(str(tmp_path / "linked")) as model:
        assert model.run("serving_default", {"texts": ["b"]})["y"].tolist() == [1]


def name_the_file(graph: Any, secret: Path) -> Any:
    """Put a constant in the graph that names a file."""
    named = graph.graph_def.node.add(name="named", op="Const")
    named.attr["dtype"].type = tf.string.as_datatype_enum
    named.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(secret)))
    return named


def by_a_constant(graph: Any, secret: Path) -> None:
    name_the_file(graph, secret)
    (read,) = [found for found in graph.graph_def.node if found.name == "ReadVariableOp"]
    for found in graph.graph_def.node:
        found.input[:] = ["named" if given == read.name else given for given in found.input]


def by_the_variable(graph: Any, secret: Path) -> None:
    name_the_file(graph, secret)
    (assign,) = [found for found in graph.graph_def.node if found.name == "Variable/Assign"]
    assign.input[1] = "named"


def by_a_constant_in_the_function(graph: Any, secret: Path) -> None:
    named = name_the_file(graph, secret)
    for found in graph.graph_def.library.function:
        for inner in found.node_def:
            if inner.op == "InitializeTableFromTextFileV2":
                inner.input[1] = "named:output:0"
                found.node_def.add().CopyFrom(named)
                return


def by_no_asset(graph: Any, secret: Path) -> None:
    del graph.asset_file_def[:]


@pytest.mark.parametrize(
    "change", [by_a_constant, by_the_variable, by_a_constant_in_the_function, by_no_asset]
)
def test_a_table_of_a_file_that_is_no_asset_is_refused(worded, secret, change):
    edit(worded, lambda graph: change(graph, secret))
    with pytest.raises(ForbiddenOps, match=r"InitializeTableFromTextFileV2 \(fill a table .* asset"):
        SessionModel.load(worded)


def test_a_variable_that_is_given_another_file_too_still_reads_the_asset(worded, secret):
    """What stands between a file and its table is fed: nothing else that the graph does reaches the table."""

    def change(graph: Any) -> None:
        name_the_file(graph, secret)
        (assign,) = [found for found in graph.graph_def.node if found.name == "Variable/Assign"]
        second = graph.graph_def.node.add()
        second.CopyFrom(assign)
        second.name, second.input[1] = "again", "named"
        second.input.append("^Variable/Assign")
        (read,) = [found for found in graph.graph_def.node if found.name == "ReadVariableOp"]
        read.input.append("^again")

    edit(worded, change)
    with SessionModel.load(worded) as model:
        found = model.run("serving_default", {"texts": ["b", SECRET]})["y"]
    assert found.tolist() == [1, -1]


# Who is asked


def test_a_client_of_a_folder_refuses_and_may_allow(tmp_path):
    path = tmp_path / "1"
    client_models.shop(path)
    edit(path, lambda graph: graph.graph_def.node.add(name="odd", op="Abort"))
    with pytest.raises(ForbiddenOps, match=r"Received: Abort \(end or stop the process\)"):
        SavedModelClient(path)
    with SavedModelClient(path, allow_ops=["Abort"]) as client:
        assert client.predict([{"price": 50.0}])[0].label == "yes"
