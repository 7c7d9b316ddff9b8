"""What is compiled is what Kubeflow takes, holds every option of the config, and nothing of this machine."""

import hashlib
import itertools
import random
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import components

from headrace.data.errors import ConfigError
from headrace.kubeflow.bundle import config_arguments, make_bundle
from headrace.kubeflow.compile import compile_pipeline
from headrace.kubeflow.lint import find_problems
from headrace.kubeflow.presence import step_config
from headrace.kubeflow.spec import PipelineFile, Wishes, load_pipeline
from headrace.kubeflow.submission import prepared
from headrace.pipeline.beam import FlinkBeam
from headrace.pipeline.config import load_config
from headrace.pipeline.graph import GRAPH
from headrace.pipeline.identity import run_identity
from headrace.pipeline.packed import load_any_config, pack, unpack
from tests.e2e.project import CONFIG, Project

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.yaml"))

SECTION: dict[str, Any] = {
    "defaults": {
        "image": "registry.example/headrace:1",
        "env": {"TZ": "UTC"},
        "secrets": {"HEADRACE_METADATA_PASSWORD": {"secret": "database", "key": "password"}},
        "retries": 3,
        "backoff_s": 10,
        "timeout_s": 3600,
    },
    "nodes": {
        "trainer": {
            "image": "registry.example/headrace-gpu:1",
            "cpu": "4",
            "cpu_limit": "8",
            "memory": "8Gi",
            "memory_limit": "16Gi",
            "gpu": {"count": 2, "type": "amd.com/gpu"},
            "node_selector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "env": {"TF_FORCE_GPU_ALLOW_GROWTH": "true"},
            "timeout_s": 7200,
        }
    },
    "volume": {"claim": "models", "mount": "/mnt/store", "sub_path": "team"},
    "parameters": ["training.epochs", "training.learning_rate", "data.label", "model.hidden"],
    "service_account": "trainer",
    "run_as_user": 2000,
}


def compiled(folder: Path, section: dict[str, Any] | None = None, **changes: Any) -> PipelineFile:
    project = Project.make(folder, rows=50)
    project.write_config({**CONFIG, **changes, "kubeflow": section or {}})
    compile_pipeline(folder / "demo.yaml", folder / "out" / "pipeline.yaml")
    return load_pipeline(folder / "out" / "pipeline.yaml")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> PipelineFile:
    metadata = {"url": "postgresql://mlmd@db:5432/mlmd?sslmode=disable"}
    return compiled(tmp_path_factory.mktemp("full"), SECTION, metadata=metadata)


def tasks(file: PipelineFile) -> dict[str, Any]:
    found: dict[str, Any] = file.components["comp-exit-handler-1"]["dag"]["tasks"]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_compiles_for_kfps_own_loader(name: str, tmp_path: Path) -> None:
    made = compile_pipeline(ROOT / "examples" / name, tmp_path / "pipeline.yaml")
    assert components.load_component_from_file(str(made.path)).pipeline_spec.schema_version == "2.1.0"
    assert find_problems(made.path) == []
    text = made.path.read_text()
    packed = yaml.safe_dump(dict(unpack(re.findall(r"--config=(gz:\S+)", text)[0]).raw))
    for word in (str(ROOT), str(Path.home()), str(tmp_path)):
        assert word not in text
        assert word not in packed


def test_compiling_twice_gives_the_same_file(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    texts = []
    for name in ("a", "b"):
        compile_pipeline(tmp_path / "demo.yaml", tmp_path / f"{name}.yaml")
        texts.append((tmp_path / f"{name}.yaml").read_text())
    assert texts[0] == texts[1]


def test_there_is_one_step_a_node_and_one_that_always_concludes(full: PipelineFile) -> None:
    assert set(tasks(full)) == {node.id.replace("_", "-") for node in GRAPH}
    report = full.root["dag"]["tasks"]["report"]
    assert report["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert report["dependentTasks"] == ["exit-handler-1"]


def test_steps_wait_for_what_the_graph_says(full: PipelineFile) -> None:
    for node in GRAPH:
        needed = {*(edge.node for edge in node.inputs), *node.after}
        assert set(tasks(full)[node.id.replace("_", "-")].get("dependentTasks", [])) == {
            name.replace("_", "-") for name in needed
        }


def test_with_sqlite_steps_run_one_after_another(tmp_path: Path) -> None:
    found = tasks(compiled(tmp_path))
    names = [node.id.replace("_", "-") for node in GRAPH]
    for before, name in itertools.pairwise(names):
        assert before in found[name]["dependentTasks"]


def test_every_option_reaches_the_step(full: PipelineFile) -> None:
    container, platform = full.executors["exec-trainer"]["container"], full.platform["exec-trainer"]
    assert container["image"] == "registry.example/headrace-gpu:1"
    resources = container["resources"]
    assert resources["resourceCpuRequest"] == "4"
    assert resources["resourceCpuLimit"] == "8"
    assert resources["resourceMemoryRequest"] == "8Gi"
    assert resources["resourceMemoryLimit"] == "16Gi"
    assert resources["accelerator"]["resourceType"] == "amd.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "TZ": "UTC",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    assert platform["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert platform["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert platform["activeDeadlineSeconds"] == "7200"
    assert platform["securityContext"] == {"runAsUser": "2000", "runAsGroup": "1000", "runAsNonRoot": True}
    (secret,) = platform["secretAsEnv"]
    assert secret["secretName"] == "database"
    assert secret["keyToEnv"] == [{"secretKey": "password", "envVar": "HEADRACE_METADATA_PASSWORD"}]
    (mount,) = platform["pvcMount"]
    assert (mount["constant"], mount["mountPath"], mount["subPath"]) == ("models", "/mnt/store", "team")
    assert tasks(full)["trainer"]["retryPolicy"] == {
        "maxRetryCount": 3,
        "backoffDuration": "10s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "600s",
    }


def test_other_steps_keep_the_defaults_and_the_nodes_own_needs(full: PipelineFile) -> None:
    container = full.executors["exec-transform"]["container"]
    assert container["image"] == "registry.example/headrace:1"
    assert "accelerator" not in container["resources"]
    assert container["resources"]["resourceMemoryRequest"] == "6Gi"
    assert full.platform["exec-transform"]["activeDeadlineSeconds"] == "3600"
    assert "nodeSelector" not in full.platform["exec-transform"]


@pytest.mark.parametrize("name", ["verdict", "data-verdict"])
def test_verdicts_are_never_tried_again(name: str, full: PipelineFile) -> None:
    assert "retryPolicy" not in tasks(full)[name]


def test_kubeflow_caches_nothing(full: PipelineFile) -> None:
    assert all(not task["cachingOptions"].get("enableCache") for task in tasks(full).values())


def test_parameters_have_the_configs_types_and_values(full: PipelineFile) -> None:
    found = {name: (p["parameterType"], p["defaultValue"]) for name, p in full.parameters.items()}
    assert found == {
        "force": ("BOOLEAN", False),
        "training_epochs": ("NUMBER_INTEGER", 3.0),
        "training_learning_rate": ("NUMBER_DOUBLE", 0.01),
        "data_label": ("STRING", "late"),
        "model_hidden": ("STRING", "[16]"),
    }
    args = full.executors["exec-push"]["container"]["args"]
    assert "--set=training.epochs={{$.inputs.parameters['training_epochs']}}" in args
    assert "--set-text=data.label={{$.inputs.parameters['data_label']}}" in args


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_travels_means_what_the_file_means(name: str, tmp_path: Path) -> None:
    there = load_any_config(pack(make_bundle(ROOT / "examples" / name).packed), root=str(tmp_path))
    here = load_config(ROOT / "examples" / name)
    assert run_identity(there) == run_identity(here)
    assert list(there.features) == list(here.features)


def test_a_schema_beside_the_config_travels(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    (tmp_path / "demo.schema.pbtxt").write_text("# kept\n")
    bundle = make_bundle(tmp_path / "demo.yaml")
    assert bundle.packed.files == {"demo.schema.pbtxt": "# kept\n"}


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("rows.csv", "data/rows.csv"),
        ("../elsewhere/rows.csv", "data/rows.csv"),
        ("day-{SPAN}/*.csv", "data/day-{SPAN}/*.csv"),
    ],
)
def test_data_are_looked_for_below_the_root(given: str, there: str, tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50).write_config({**CONFIG, "data": {**CONFIG["data"], "path": given}})
    assert make_bundle(tmp_path / "demo.yaml").packed.raw["data"]["path"] == there


def test_the_beam_section_travels_and_its_job_server_is_looked_for_below_the_root(tmp_path: Path) -> None:
    beam = {
        "runner": "flink",
        "job_server_jar": "../jars/server.jar",
        "nodes": {"ingest": {"runner": "prism", "location": "https://prism.example/prism"}},
    }
    Project.make(tmp_path, rows=50).write_config({**CONFIG, "beam": beam})
    bundle = make_bundle(tmp_path / "demo.yaml")
    assert bundle.links["beam/server.jar"] == tmp_path.parent / "jars" / "server.jar"
    there = load_any_config(pack(bundle.packed), root="/mnt/headrace").beam
    assert isinstance(there, FlinkBeam)
    assert there.job_server_jar == "/mnt/headrace/beam/server.jar"
    assert there.nodes["ingest"].model_dump()["location"] == "https://prism.example/prism"


def test_a_span_is_a_parameter_where_the_path_has_one(tmp_path: Path) -> None:
    found = compiled(tmp_path, data={**CONFIG["data"], "path": "day-{SPAN}.csv"})
    assert found.parameters["span"] == {"defaultValue": "", "isOptional": True, "parameterType": "STRING"}


def noisy(folder: Path, size: int) -> None:
    """Put a schema beside the config that does not compress: it is packed with it."""
    (folder / "demo.schema.pbtxt").write_text("".join(random.Random(0).choices(string.printable, k=size)))


def test_a_large_config_goes_to_a_uri_or_the_volume(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    assert config_arguments(make_bundle(tmp_path / "demo.yaml"), 17).place == ""
    noisy(tmp_path, 12_000)
    text = pack(make_bundle(tmp_path / "demo.yaml").packed)
    assert 12_000 < len(text) < 20_000
    carried = config_arguments(make_bundle(tmp_path / "demo.yaml"), 17)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert carried.arguments == [f"--config=config/{digest[:16]}.gz", f"--config-sha256={digest}"]
    assert (carried.place, carried.text) == (f"config/{digest[:16]}.gz", text)
    uri = (tmp_path / "config.gz").as_uri()
    carried = config_arguments(make_bundle(tmp_path / "demo.yaml", (f"kubeflow.config_uri={uri}",)), 17)
    assert (carried.arguments[0], carried.place) == (f"--config={uri}", uri)
    nowhere = make_bundle(tmp_path / "demo.yaml", ("kubeflow.volume=null", "kubeflow.root=/srv"))
    with pytest.raises(ConfigError, match=r"for 17 steps must be at most 12,000 bytes when packed") as caught:
        config_arguments(nowhere, 17)
    assert "kubeflow.config_uri" in caught.value.hint


def test_the_largest_config_of_an_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Project.make(tmp_path, rows=50)
    bundle = make_bundle(tmp_path / "demo.yaml")
    size = len(pack(bundle.packed))
    monkeypatch.setattr("headrace.kubeflow.bundle.LARGEST_CONFIG_BYTES", size)
    assert config_arguments(bundle, 17).place == ""
    monkeypatch.setattr("headrace.kubeflow.bundle.LARGEST_CONFIG_BYTES", size - 1)
    assert config_arguments(bundle, 17).place != ""
    monkeypatch.setattr("headrace.kubeflow.bundle.LARGEST_CONFIG_BYTES", size)
    assert config_arguments(bundle, 850_000 // (size - 1)).place != ""


def test_a_config_on_the_volume_is_written_told_and_read(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    noisy(tmp_path, 12_000)
    made = compile_pipeline(tmp_path / "demo.yaml", tmp_path / "p.yaml")
    assert made.beside == tmp_path / "p.config.gz"
    (place,) = (place for place in made.bundle.needed if place.startswith("config/"))
    assert made.bundle.needed[place] == tmp_path / "p.config.gz"
    assert find_problems(made.path) == []
    file, volume = load_pipeline(made.path), tmp_path / "volume"
    (tmp_path / "volume").mkdir()
    with pytest.raises(
        ConfigError, match=r"be on the volume. Received: No such file .*config/\w+.gz"
    ) as caught:
        step_config(file, "exec-ingest", volume)
    assert "wrote beside the pipeline" in caught.value.hint
    (volume / place).parent.mkdir()
    (volume / place).write_bytes((tmp_path / "p.config.gz").read_bytes())
    assert step_config(file, "exec-ingest", volume).name == "demo"
    (volume / place).write_text("gz:other")
    with pytest.raises(ConfigError, match=r"must have SHA-256 \w{64}. Received: \w{64}"):
        step_config(file, "exec-ingest", volume)


def test_a_config_at_a_uri_is_stored_and_read(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    noisy(tmp_path, 12_000)
    uri = (tmp_path / "store.gz").as_uri()
    made = compile_pipeline(tmp_path / "demo.yaml", tmp_path / "p.yaml", (f"kubeflow.config_uri={uri}",))
    assert made.beside is None
    assert not (tmp_path / "p.config.gz").exists()
    assert step_config(load_pipeline(made.path), "exec-ingest", tmp_path / "volume").name == "demo"


def test_submit_refuses_what_needs_a_file_on_the_volume(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    noisy(tmp_path, 12_000)
    with (
        pytest.raises(ConfigError, match=r"be on the volume before its run. Received: .*demo.yaml") as caught,
        prepared(str(tmp_path / "demo.yaml"), (), ()),
    ):
        pass
    assert "headrace kubeflow compile" in caught.value.hint


def test_a_secret_in_the_config_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    overrides = ("kubeflow.defaults.env={DB_PASSWORD: hush}",)
    with pytest.raises(ConfigError, match=r"Received: one in kubeflow.defaults.env.DB_PASSWORD"):
        compile_pipeline(tmp_path / "demo.yaml", tmp_path / "p.yaml", overrides)
    assert not (tmp_path / "p.yaml").exists()


def test_wishes_travel_in_the_file(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    wished = ("service_account=trainer", "experiment=Ein Versuch, né", "run_name=nightly")
    overrides = tuple(f"kubeflow.{text}" for text in wished)
    made = compile_pipeline(tmp_path / "demo.yaml", tmp_path / "p.yaml", overrides)
    wishes = Wishes("trainer", "Ein Versuch, né", "nightly")
    assert load_pipeline(made.path).wishes == wishes
    with prepared(str(made.path), (), ()) as sent:
        assert sent.wishes == wishes
    plain = made.path.read_text().partition("\n")[2]
    (tmp_path / "old.yaml").write_text(plain)
    assert load_pipeline(tmp_path / "old.yaml").wishes == Wishes(None, "headrace", None)
    (tmp_path / "old.yaml").write_text("# headrace submits it with: {]\n" + plain)
    with pytest.raises(ConfigError, match="must be what compile wrote"):
        load_pipeline(tmp_path / "old.yaml")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"parameters": ["training.speed"]}, r"must be paths of the config. Received: training.speed"),
        ({"parameters": ["output.runs"]}, r"must bear on the result"),
        ({"parameters": ["training.epochs", "training.epochs"]}, r"must have distinct names"),
        ({"volume": None}, r"`kubeflow.root` is required"),
        ({"nodes": {"train": {}}}, r"must name nodes: ingest, .*Received: train"),
        ({"nodes": {"ingest": {"gpu": {}}}}, r"only tuner, trainer, crossval use accelerators"),
        ({"run_as_user": 0}, r"greater than or equal to 1"),
        ({"defaults": {"memory": "6 GB"}}, r"kubeflow.defaults.memory"),
    ],
)
def test_a_wrong_section_is_told(section: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        compiled(tmp_path, section)


def test_a_password_in_the_url_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`metadata.url` must not hold the password") as caught:
        compiled(tmp_path, metadata={"url": "mysql://user:hidden@db/mlmd"})
    assert "hidden" not in caught.value.message


def test_own_code_is_tried_before_a_pipeline_is_written(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    told: list[str] = []
    overrides = ("training.loss.kind=custom", "training.loss.use=nowhere:nothing")
    with pytest.raises(ConfigError, match="No module named 'nowhere'"):
        compile_pipeline(tmp_path / "demo.yaml", tmp_path / "pipeline.yaml", overrides, told.append)
    assert told == ["trying your own code on a few made-up rows (imports TensorFlow): nowhere:nothing"]
    assert not (tmp_path / "pipeline.yaml").exists()
