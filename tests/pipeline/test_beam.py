"""The `beam` section: which engine a node gets, and what Beam is told of it."""

from pathlib import Path
from typing import Any

import pytest
from apache_beam.options import pipeline_options as beam_options

from headrace.data.errors import ConfigError
from headrace.pipeline.beam import DirectEngine, engine_of
from headrace.pipeline.config import RunConfig, load_config, parse_config
from tests.pipeline.test_config import changed, write

DATAFLOW = {
    "runner": "dataflow",
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://bucket/temp",
    "container_image": "registry/headrace:1",
}


def parsed(beam: dict[str, Any]) -> RunConfig:
    return parse_config(changed("beam", beam))


def told(beam: dict[str, Any], node: str = "transform") -> dict[str, Any]:
    """Return what Beam itself reads from the arguments; what it does not know is not there."""
    options = beam_options.PipelineOptions(list(engine_of(parsed(beam).beam, node).pipeline_args()))
    found = options.get_all_options(drop_default=True)
    return dict(found)


def test_without_a_runner_nodes_keep_their_own_process() -> None:
    config = parsed({})
    assert config.beam.runner == "direct"
    assert told({}) == {"runner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner"}


def test_flink() -> None:
    beam = {
        "runner": "flink",
        "master": "jobmanager:8081",
        "parallelism": 4,
        "environment": "process",
        "process_command": "/opt/apache/beam/boot",
        "process_env": {"LANG": "C.UTF-8"},
        "args": ["--job_server_timeout=60"],
    }
    assert told(beam) == {
        "runner": "FlinkRunner",
        "flink_master": "jobmanager:8081",
        "flink_version": "1.19",
        "parallelism": 4,
        "environment_type": "PROCESS",
        "environment_config": '{"command": "/opt/apache/beam/boot", "env": {"LANG": "C.UTF-8"}}',
        "sdk_worker_parallelism": "1",
        "job_server_timeout": 60,
    }


def test_spark() -> None:
    assert told({"runner": "spark", "master": "spark://host:7077", "job_endpoint": "host:8099"}) == {
        "runner": "SparkRunner",
        "spark_master_url": "spark://host:7077",
        "environment_type": "LOOPBACK",
        "sdk_worker_parallelism": "1",
        "job_endpoint": "host:8099",
    }


def test_prism() -> None:
    assert told({"runner": "prism", "log_level": "error"}) == {
        "runner": "PrismRunner",
        "environment_type": "LOOPBACK",
        "prism_log_level": "error",
    }


def test_dataflow_passes_beams_own_checks() -> None:
    beam = DATAFLOW | {
        "workers": 2,
        "max_workers": 20,
        "machine_type": "n2-standard-4",
        "public_ips": False,
        "labels": {"team": "wheel"},
        "experiments": ["use_runner_v2"],
        "service_account": "beam@my-project.iam.gserviceaccount.com",
    }
    found = told(beam)
    assert (found["num_workers"], found["max_num_workers"], found["use_public_ips"]) == (2, 20, False)
    assert (found["labels"], found["experiments"]) == (["team=wheel"], ["use_runner_v2"])
    assert (found["sdk_container_image"], found["sdk_location"]) == ("registry/headrace:1", "container")
    assert (found["machine_type"], found["region"]) == ("n2-standard-4", "europe-west4")
    assert found["service_account_email"] == "beam@my-project.iam.gserviceaccount.com"


def test_a_node_may_have_its_own_engine() -> None:
    beam = parsed({"runner": "flink", "nodes": {"evaluation": {}, "statistics": {"runner": "prism"}}}).beam
    found = {name: engine_of(beam, name).runner for name in ("ingest", "statistics", "evaluation")}
    assert found == {"ingest": "flink", "statistics": "prism", "evaluation": "direct"}
    assert isinstance(engine_of(beam, "evaluation"), DirectEngine)


def test_files_start_at_the_config(tmp_path: Path) -> None:
    beam = {
        "runner": "flink",
        "job_server_jar": "jars/server.jar",
        "nodes": {
            "ingest": {"runner": "prism", "location": "../prism"},
            "statistics": {"runner": "prism", "location": "https://example.org/prism.zip"},
        },
    }
    file = write(tmp_path, changed("beam", beam))
    placed = load_config(file).beam
    assert f"--flink_job_server_jar={tmp_path}/jars/server.jar" in placed.pipeline_args()
    assert f"--prism_location={tmp_path.parent}/prism" in engine_of(placed, "ingest").pipeline_args()
    assert "--prism_location=https://example.org/prism.zip" in engine_of(placed, "statistics").pipeline_args()
    again = RunConfig.model_validate_json(load_config(file).model_dump_json())
    assert again.beam == placed


@pytest.mark.parametrize(
    ("beam", "message"),
    [
        ({"args": ["--runner=FlinkRunner"]}, r"must not choose the runner; set `runner`"),
        ({"runner": "dask"}, r"Received: dask|dask"),
        ({"runner": "flink", "environment": "process"}, r"`environment: process` and `process_command` go"),
        ({"runner": "spark", "container_image": "a:1"}, r"`environment: docker` and `container_image` go"),
        ({"runner": "flink", "uber_jar": True}, r"`uber_jar` needs the address of a cluster"),
        ({"runner": "spark", "uber_jar": True}, r"`uber_jar` and `rest_url` go together"),
        ({"runner": "flink", "parallelism": 0}, r"parallelism"),
        (
            {"runner": "flink", "master": "http://host:8081"},
            r"as HOST:PORT or \[local\]\. Received: http://host",
        ),
        (
            {"runner": "spark", "master": "yarn"},
            r"as spark://HOST:PORT, local or .*Received: yarn",
        ),
        ({"runner": "flink", "paralelism": 2}, r"Nearest valid key: `parallelism`"),
        ({"nodes": {"ingest": {"runner": "flink", "mster": "x"}}}, r"Nearest valid key: `master`"),
        ({"runner": "prism", "parallelism": 2}, r"parallelism"),
        ({"runner": "dataflow"}, r"project"),
        (DATAFLOW | {"temp_location": "/tmp"}, r"temp_location"),
        (DATAFLOW | {"workers": 3, "max_workers": 2}, r"`workers` must not exceed `max_workers`"),
        ({"nodes": {"trainer": {"runner": "flink"}}}, r"trainer"),
    ],
)
def test_what_does_not_fit_is_refused(beam: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parsed(beam)
