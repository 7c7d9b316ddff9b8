"""Versions come, serve and go: what the disk, a configuration or a failure does to what is answered."""

import asyncio
import hashlib
import json
import shutil
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from headrace.data.errors import ConfigError
from headrace.serving.server import servable as servable_module
from headrace.serving.server.config_file import read_config
from headrace.serving.server.core import Core, Settings
from headrace.serving.server.errors import Code, ServingError
from headrace.serving.server.manager import ManagerSettings, State
from headrace.serving.server.model_spec import ModelSpec
from headrace.serving.server.run import RunSettings, Server, entry_of_folder
from headrace.serving.server.source import ModelEntry, VersionPolicy, entries_of
from headrace.serving.server.versions import Model
from headrace.serving.session import SessionModel
from tests.serving import saved_models

QUICK = ManagerSettings(poll_wait_s=0.02, max_load_retries=0, load_retry_interval_s=0.05)
ROW = np.zeros(1, np.float32)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """Models that answer 1, 2 and 3."""
    root = tmp_path_factory.mktemp("exports")
    return {value: Path(saved_models.constant(root / str(value), value)) for value in (1.0, 2.0, 3.0)}


@pytest.fixture
def place(exports: dict[float, Path], tmp_path: Path) -> Callable[[int, float], Path]:
    """Publish version `number` of model "m", which answers `value`, the atomic way."""

    def put(number: int, value: float, name: str = "m") -> Path:
        hidden = tmp_path / name / f".{number}"
        shutil.copytree(exports[value], hidden)
        return hidden.rename(tmp_path / name / str(number))

    return put


def run(work: Callable[[Core], Awaitable[None]], settings: Settings | None = None) -> None:
    async def whole() -> None:
        core = Core(settings or Settings(manager=QUICK))
        try:
            async with asyncio.timeout(60):
                await work(core)
        finally:
            await core.close()

    asyncio.run(whole())


async def value(core: Core, version: int | None = None, name: str = "m") -> float:
    answer = await core.predict(ModelSpec(name, version), {"x": ROW})
    return float(answer.outputs["a"][0])


async def until(reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not reached():
            await asyncio.sleep(0.01)


def states(core: Core, name: str = "m") -> dict[int, State]:
    return {status.version: status.state for status in core.manager.statuses(name)}


async def started(core: Core, path: Path, policy: VersionPolicy | None = None, name: str = "m") -> None:
    await core.start([ModelEntry(name, str(path / name), policy or VersionPolicy())])
    await core.wait_loaded()


# Policies


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(), [3]),
        (VersionPolicy("latest", 2), [3, 2]),
        (VersionPolicy("latest", 9), [3, 2, 1]),
        (VersionPolicy("all"), [3, 2, 1]),
        (VersionPolicy("specific", versions=(1, 3)), [3, 1]),
        (VersionPolicy("specific", versions=(2, 77)), [2]),
    ],
)
def test_policies(place, tmp_path, policy, served):
    for number in (1, 2, 3):
        place(number, float(number))
    (tmp_path / "m" / "notes").mkdir()
    (tmp_path / "m" / "4").write_text("a file, not a version")

    async def work(core: Core) -> None:
        await started(core, tmp_path, policy)
        assert list(core.manager.serving["m"]) == served
        assert [await value(core, version) for version in served] == [float(version) for version in served]
        assert await value(core) == float(served[0])

    run(work)


def test_a_new_version_takes_over_and_the_old_one_ends(place, tmp_path):
    place(1, 1.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        assert states(core) == {1: State.AVAILABLE}
        place(2, 2.0)
        await until(lambda: states(core) == {2: State.AVAILABLE, 1: State.END})
        assert await value(core) == 2.0
        with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"):
            await value(core, 1)
        assert core.status("m", 1)[0].error_code is Code.OK

    run(work)


def test_a_request_keeps_the_version_that_it_started_on(place, tmp_path):
    place(1, 1.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        lease = core.resolve(ModelSpec("m"))
        place(2, 2.0)
        await until(lambda: states(core).get(1) is State.UNLOADING)
        method = lease.servable.methods["serving_default"]
        assert lease.servable.run(method, [ROW], ("a",))[0].tolist() == [1.0]
        assert await value(core) == 2.0
        with lease:
            pass
        await until(lambda: states(core)[1] is State.END)
        assert lease.servable.closed

    run(work)


def test_removed_versions_leave_unless_the_model_would(place, tmp_path):
    place(1, 1.0)
    place(2, 2.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        shutil.rmtree(tmp_path / "m" / "2")
        await until(lambda: states(core) == {2: State.END, 1: State.AVAILABLE})
        shutil.rmtree(tmp_path / "m" / "1")
        await until(lambda: states(core) == {2: State.END, 1: State.END})
        assert not core.ready()
        place(1, 3.0)
        await until(core.ready)
        assert await value(core) == 3.0

    run(work)


def test_versions_always_present_outlive_their_folders(place, tmp_path):
    place(1, 1.0)
    settings = Settings(manager=ManagerSettings(poll_wait_s=0.02, versions_always_present=True))

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        shutil.rmtree(tmp_path / "m" / "1")
        await asyncio.sleep(0.2)
        assert await value(core) == 1.0

    run(work, settings)


def test_a_base_path_that_cannot_be_reached_changes_nothing(place, tmp_path):
    place(1, 1.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        (tmp_path / "m").rename(tmp_path / "away")
        await asyncio.sleep(0.2)
        assert await value(core) == 1.0
        assert states(core) == {1: State.AVAILABLE}

    run(work)


# Failures


def spoil_nothing(path: Path) -> None:
    (path / "saved_model.pb").unlink()


def spoil_graph(path: Path) -> None:
    (path / "saved_model.pb").write_bytes(b"\xff\xfe not a graph")


def spoil_variables(path: Path) -> None:
    shutil.rmtree(path / "variables")


def spoil_sums(path: Path) -> None:
    data = (path / "saved_model.pb").read_bytes()
    entry = {"path": "saved_model.pb", "size": len(data), "sha256": hashlib.sha256(b"another").hexdigest()}
    (path / "manifest.json").write_text(json.dumps({"files": [entry]}))


def spoil_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "code", "text"),
    [
        (
            spoil_nothing,
            Code.NOT_FOUND,
            "Could not find SavedModel .pb or .pbtxt at supplied",
        ),
        (spoil_graph, Code.INTERNAL, "a model folder must hold saved_model.pb"),
        (spoil_variables, Code.INTERNAL, "a served model must load in a session"),
        (
            spoil_sums,
            Code.DATA_LOSS,
            "saved_model.pb is altered",
        ),
        (spoil_manifest, Code.DATA_LOSS, "a manifest must list files with size and sha256"),
    ],
)
def test_a_bad_version_does_not_take_the_good_one_down(place, tmp_path, exports, spoil, code, text):
    place(1, 1.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        hidden = tmp_path / "m" / ".2"
        shutil.copytree(exports[2.0], hidden)
        spoil(hidden)
        hidden.rename(tmp_path / "m" / "2")
        await until(lambda: states(core).get(2) is State.END)
        (status,) = core.status("m", 2)
        assert text in status.error_message
        assert status.error_code in (code, Code.NOT_FOUND, Code.INTERNAL, Code.UNKNOWN)
        if code in (Code.DATA_LOSS, Code.NOT_FOUND):
            assert status.error_code is code
        assert await value(core) == 1.0
        shutil.rmtree(tmp_path / "m" / "2")
        place(2, 2.0)
        await until(lambda: states(core).get(2) is State.AVAILABLE)
        assert await value(core) == 2.0

    run(work)


def test_a_version_that_is_still_copied_is_taken_once_it_is_whole(place, tmp_path, exports):
    place(1, 1.0)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        target = tmp_path / "m" / "2"
        target.mkdir()
        shutil.copy(exports[2.0] / "saved_model.pb", target)
        await until(lambda: states(core).get(2) is State.END)
        assert await value(core) == 1.0
        shutil.copytree(exports[2.0], target, dirs_exist_ok=True)
        await until(lambda: states(core).get(2) is State.AVAILABLE)
        assert await value(core) == 2.0

    run(work)


def test_loads_are_tried_again_as_often_as_configured(place, tmp_path, monkeypatch):
    place(1, 1.0)
    tries: list[str] = []

    def failing(path: str, **_: Any) -> SessionModel:
        tries.append(path)
        raise RuntimeError("the disk hiccups")

    monkeypatch.setattr(SessionModel, "load", failing)
    settings = Settings(manager=ManagerSettings(0.02, max_load_retries=3, load_retry_interval_s=0.01))

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        assert len(tries) == 4
        (status,) = core.status("m")
        assert (status.state, status.error_code) == (State.END, Code.INTERNAL)
        assert status.error_message == "RuntimeError: the disk hiccups"

    run(work, settings)


def test_while_it_is_tried_again_its_state_says_why(place, tmp_path):
    spoil_graph(place(1, 1.0))
    settings = Settings(manager=ManagerSettings(0.02, max_load_retries=1, load_retry_interval_s=30.0))

    async def work(core: Core) -> None:
        await core.start([ModelEntry("m", str(tmp_path / "m"))])
        await until(lambda: core.manager.statuses("m")[0].error_message != "")
        assert states(core) == {1: State.LOADING}
        with pytest.raises(ServingError, match=r"Latest\(m\)"):
            await value(core)

    run(work, settings)


def test_a_folder_that_changes_while_it_is_loaded_is_refused(place, tmp_path, monkeypatch):
    path = place(1, 1.0)
    original = SessionModel.load

    def meanwhile(folder: str, **kwargs: Any) -> SessionModel:
        model = original(folder, **kwargs)
        (path / "saved_model.pb").touch()
        return model

    monkeypatch.setattr(SessionModel, "load", meanwhile)

    async def work(core: Core) -> None:
        await core.start([ModelEntry("m", str(tmp_path / "m"))])
        await until(lambda: core.manager.statuses("m")[0].error_code is Code.ABORTED)
        assert "must not change while it is loaded" in core.status("m")[0].error_message

    run(work)


def test_operators_that_touch_files_are_refused_by_name(tmp_path):
    module = tf.Module()
    module.read = tf.function(
        lambda name: {"content": tf.io.read_file(name)}, input_signature=[tf.TensorSpec([], tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures=module.read)

    async def refused(core: Core) -> None:
        await started(core, tmp_path)
        (status,) = core.status("m")
        assert status.error_code is Code.PERMISSION_DENIED
        assert "Received: ReadFile" in status.error_message

    async def allowed(core: Core) -> None:
        await started(core, tmp_path)
        assert core.ready()

    run(refused)
    run(allowed, Settings(manager=QUICK, allow_ops=("ReadFile",)))


def test_a_version_that_loads_but_cannot_answer_is_not_served(tmp_path):
    """The export of common templates: its saver restores variables that nobody uses."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    spec = [tf.TensorSpec([None, 2], tf.float32, name="numbers")]
    function = tf.function(lambda numbers: {"out": model(numbers)}, input_signature=spec)
    tf.saved_model.save(model, str(tmp_path / "m" / "1"), signatures=function)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        (status,) = core.status("m")
        assert (status.state, status.error_code) == (State.END, Code.FAILED_PRECONDITION)
        assert "Could not find variable" in status.error_message

    run(work)


# Warm-up


def write_warmup(path: Path, logs: list[prediction_log_pb2.PredictionLog]) -> None:
    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def predict_log(alias: str = "x") -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs[alias].CopyFrom(tf.make_tensor_proto([1.0]))
    return log


def example_logs() -> list[prediction_log_pb2.PredictionLog]:
    regress, classify, multi = (prediction_log_pb2.PredictionLog() for _ in range(3))
    regress.regress_log.request.model_spec.signature_name = "regress_x_to_y"
    classify.classify_log.request.model_spec.signature_name = "classify_x_to_y"
    for name in ("regress_x_to_y", "regress_x_to_double"):
        task = multi.multi_inference_log.request.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name = "m"
        task.model_spec.signature_name = name
    for request in (
        regress.regress_log.request,
        classify.classify_log.request,
        multi.multi_inference_log.request,
    ):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(1.0)
    return [regress, classify, multi]


def test_warm_up_requests_are_answered_before_the_version_is_available(tmp_path, monkeypatch):
    path = Path(saved_models.half_plus_two(tmp_path / "m" / "1"))
    write_warmup(path, [predict_log(), *example_logs()])
    ran: list[str] = []
    original = servable_module.Servable.run

    def watched(self: Any, method: Any, inputs: Any, outputs: Any) -> Any:
        ran.append(method.name)
        return original(self, method, inputs, outputs)

    monkeypatch.setattr(servable_module.Servable, "run", watched)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        assert core.ready()
        assert (
            ran
            == 2 * ["serving_default"]
            + 2 * ["regress_x_to_y"]
            + 2 * ["classify_x_to_y"]
            + [
                "regress_x_to_y",
                "regress_x_to_double",
            ]
            * 2
        )

    run(work, Settings(manager=QUICK, warmup_iterations=2))


@pytest.mark.parametrize(
    ("logs", "code", "text"),
    [
        ([predict_log("z")], Code.INVALID_ARGUMENT, "Signature input alias: x"),
        (
            [predict_log()] * 1001,
            Code.INVALID_ARGUMENT,
            "Number of warmup records exceeds the maximum (1000)",
        ),
        ([prediction_log_pb2.PredictionLog()], Code.UNIMPLEMENTED, "Unsupported log_type for warmup"),
    ],
)
def test_a_warm_up_that_fails_keeps_the_version_away(place, tmp_path, logs, code, text):
    write_warmup(place(1, 1.0), logs)

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        (status,) = core.status("m")
        assert (status.state, status.error_code) == (State.END, code)
        assert text in status.error_message

    run(work)


def test_a_warm_up_file_that_is_cut_off(place, tmp_path):
    path = place(1, 1.0)
    write_warmup(path, [predict_log()])
    file = path / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-3])

    async def work(core: Core) -> None:
        await started(core, tmp_path)
        (status,) = core.status("m")
        assert status.error_code is Code.DATA_LOSS
        assert "Please verify your warmup data is in TFRecord format." in status.error_message

    run(work)


# Configurations


def config(text: str, root: Path) -> Any:
    found = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(text.replace("ROOT", str(root)), found)
    return found


ONE = 'config { name: "m" base_path: "ROOT/m" model_platform: "tensorflow" }'
OTHER = 'config { name: "n" base_path: "ROOT/n" model_platform: "tensorflow" }'


def test_a_reload_adds_and_removes_models(place, tmp_path):
    place(1, 1.0)
    place(5, 2.0, name="n")

    async def work(core: Core) -> None:
        await core.reload(config(f"model_config_list {{ {ONE} }}", tmp_path))
        assert await value(core) == 1.0
        await core.reload(config(f"model_config_list {{ {ONE} {OTHER} }}", tmp_path))
        assert (await value(core), await value(core, name="n")) == (1.0, 2.0)
        await core.reload(config(f"model_config_list {{ {OTHER} }}", tmp_path))
        assert await value(core, name="n") == 2.0
        with pytest.raises(ServingError, match=r"Latest\(m\)"):
            await value(core)
        await until(lambda: states(core) == {1: State.END})
        await core.reload(config(f"model_config_list {{ {ONE} }}", tmp_path))
        assert await value(core) == 1.0
        await core.reload(model_server_config_pb2.ModelServerConfig())
        assert await value(core) == 1.0

    run(work)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            f"model_config_list {{ {ONE} {ONE} }}",
            Code.INVALID_ARGUMENT,
            "Illegal to list model m multiple",
        ),
        (
            'model_config_list { config { name: "m" base_path: "ROOT/m" } }',
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor",
        ),
        (
            'model_config_list { config { name: "m" base_path: "ROOT/m" model_platform: "caffe" } }',
            Code.INVALID_ARGUMENT,
            "Model m requests unsupported platform caffe",
        ),
        (
            'model_config_list { config { name: "m" base_path: "m" model_platform: "tensorflow" } }',
            Code.INVALID_ARGUMENT,
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        ("custom_model_config {}", Code.FAILED_PRECONDITION, "Cannot transition to requested config."),
        (
            f'model_config_list {{ {ONE[:-1]} version_labels {{ key: "new" value: 9 }} }} }}',
            Code.FAILED_PRECONDITION,
            "Request to assign label to version 9 of model m, which is not currently available for inference",
        ),
        (
            f"model_config_list {{ {OTHER.replace('ROOT/n', 'ROOT/empty')} }}",
            Code.UNKNOWN,
            "1 model(s) did not become available: {{{name: n}: no version found}, }",
        ),
    ],
)
def test_a_reload_that_is_refused(place, tmp_path, text, code, message):
    place(1, 1.0)
    (tmp_path / "empty").mkdir()

    async def work(core: Core) -> None:
        await core.reload(config(f"model_config_list {{ {ONE} }}", tmp_path))
        with pytest.raises(ServingError) as caught:
            await core.reload(config(text, tmp_path))
        assert caught.value.code is code
        assert message in caught.value.message

    run(work)


def test_labels_move_to_available_versions_only(place, tmp_path):
    place(1, 1.0)
    place(2, 2.0)
    body = ONE[:-1] + "model_version_policy { all {} } version_labels { key: 'best' value: %d } }"

    async def work(core: Core) -> None:
        await core.reload(config(f"model_config_list {{ {body % 1} }}", tmp_path))
        assert (await core.predict(ModelSpec("m", label="best"), {"x": ROW})).spec.version == 1
        await core.reload(config(f"model_config_list {{ {body % 2} }}", tmp_path))
        assert (await core.predict(ModelSpec("m", label="best"), {"x": ROW})).spec.version == 2
        with pytest.raises(ServingError, match="Request to assign label to version 7 of model m"):
            await core.reload(config(f"model_config_list {{ {body % 7} }}", tmp_path))
        assert (await core.predict(ModelSpec("m", label="best"), {"x": ROW})).spec.version == 2

    run(work, Settings(manager=QUICK, labels_for_unavailable=True))


def test_a_label_is_set_once_its_version_is_there_though_the_file_does_not_change(place, tmp_path):
    place(1, 1.0)
    file = tmp_path / "models.config"
    policy = ONE[:-1].replace("ROOT", str(tmp_path)) + "model_version_policy { all {} }"
    file.write_text(f"model_config_list {{ {policy} }} }}")

    def labelled(core: Core) -> bool:
        with suppress(ServingError):
            return core.resolve(ModelSpec("m", label="best")).version == 2
        return False

    async def whole() -> None:
        settings = RunSettings(core=Settings(manager=QUICK), config_file=str(file), config_poll_s=0.02)
        server = Server(settings)
        await server.start()
        try:
            file.write_text(f"model_config_list {{ {policy} version_labels {{ key: 'best' value: 2 }} }} }}")
            await asyncio.sleep(0.2)
            assert not labelled(server.core)
            place(2, 2.0)
            await until(lambda: labelled(server.core))
        finally:
            await server.stop()

    asyncio.run(whole())


@pytest.mark.parametrize("version", [None, 2])
def test_what_is_on_its_way_is_unavailable_and_not_absent(place, tmp_path, monkeypatch, version):
    place(2, 2.0)
    gate, load = threading.Event(), Core._load

    def held_up(core: Core, name: str, number: int, path: str) -> Any:
        assert gate.wait(20)
        if name == "bad":
            raise ServingError(Code.DATA_LOSS, "broken")
        return load(core, name, number, path)

    monkeypatch.setattr(Core, "_load", held_up)

    def code(core: Core, name: str, number: int | None = version) -> Code:
        with pytest.raises(ServingError, match="for request: ") as caught:
            core.resolve(ModelSpec(name, number))
        return caught.value.code

    async def work(core: Core) -> None:
        names = {"m": "m", "bad": "m", "none": "empty"}
        (tmp_path / "empty").mkdir()
        await core.start([ModelEntry(name, str(tmp_path / path)) for name, path in names.items()])
        found = [code(core, name) for name in ("m", "bad", "none", "other")]
        assert found == [Code.UNAVAILABLE, Code.UNAVAILABLE, Code.NOT_FOUND, Code.NOT_FOUND]
        assert code(core, "m", 9) is Code.NOT_FOUND
        gate.set()
        await core.wait_loaded()
        assert (await value(core, version)) == 2.0
        assert code(core, "bad") is Code.NOT_FOUND

    run(work)


def test_a_model_that_was_not_looked_for_yet_is_unavailable():
    model = Model(ModelEntry("m", "/nowhere"))
    assert model.coming(None)
    assert model.coming(3)
    model.polled = True
    assert not model.coming(None)


def test_policies_of_a_config_file(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(
        "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'tensorflow' "
        "model_version_policy { specific { versions: 4 versions: 2 } } } config { name: 'b' base_path: '/b' "
        "model_type: TENSORFLOW model_version_policy { latest { num_versions: 3 } } } }"
    )
    assert entries_of(read_config(str(file))) == [
        ModelEntry("a", "/a", VersionPolicy("specific", versions=(2, 4))),
        ModelEntry("b", "/b", VersionPolicy("latest", 3)),
    ]


@pytest.mark.parametrize("content", ["model_config_list {", None])
def test_a_config_file_that_cannot_be_read(tmp_path, content):
    file = tmp_path / "models.config"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigError, match="a model config file must be a ModelServerConfig"):
        read_config(str(file))


def test_folders_as_people_give_them(place, tmp_path):
    version = place(7, 1.0)
    assert entry_of_folder(str(version.parent)) == ModelEntry("m", str(version.parent))
    assert entry_of_folder(str(version)) == ModelEntry(
        "m", str(version), VersionPolicy("folder", versions=(7,))
    )
    single = version.rename(tmp_path / "single")
    assert entry_of_folder(str(single), "named").policy == VersionPolicy("folder", versions=(1,))
    with pytest.raises(ConfigError, match=r"a model must be a folder. Received: "):
        entry_of_folder(str(tmp_path / "absent"))

    async def work(core: Core) -> None:
        await core.start([entry_of_folder(str(single), "m")])
        await core.wait_loaded()
        assert await value(core, 1) == 1.0

    run(work)


# Swaps under load


async def swap_under_load(
    core: Core, place: Any, tmp_path: Path, swaps: int, clients: int
) -> tuple[int, int]:
    """Publish `swaps` versions while `clients` predict; returns answers and versions seen."""
    await started(core, tmp_path)
    stop = asyncio.Event()
    answers = 0
    seen: set[int] = set()

    async def client() -> None:
        nonlocal answers
        rows = np.zeros(3, np.float32)
        while not stop.is_set():
            answer = await core.predict(ModelSpec("m"), {"x": rows})
            expected = float(1 + (answer.spec.version or 0) % 2)
            assert answer.outputs["a"].tolist() == answer.outputs["b"].tolist() == [expected] * 3
            seen.add(answer.spec.version or 0)
            answers += 1
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    for number in range(2, swaps + 2):
        place(number, float(1 + number % 2))
        await until(lambda number=number: states(core).get(number) is State.AVAILABLE)
        old = tmp_path / "m" / str(number - 1)
        await asyncio.to_thread(shutil.rmtree, old)
        assert not any(task.done() for task in tasks)
    stop.set()
    await asyncio.gather(*tasks)
    assert [version for version, state in states(core).items() if state is State.AVAILABLE] == [swaps + 1]
    return answers, len(seen)


@pytest.mark.parametrize("swaps", [8, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
def test_swaps_under_32_clients_lose_and_mix_nothing(place, tmp_path, swaps):
    place(1, 2.0)

    async def work() -> None:
        core = Core(Settings(manager=QUICK))
        try:
            answers, seen = await swap_under_load(core, place, tmp_path, swaps, 32)
        finally:
            await core.close()
        assert answers > swaps * 32
        assert seen == swaps + 1

    asyncio.run(work())
