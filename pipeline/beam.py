"""The `beam` section: which engine runs Apache Beam's part of the nodes that use it."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from headrace.data.local_path import RemoteFile
from headrace.data.section import MAY_HOLD_SECRET, Section

__all__ = [
    "LOCAL_RUNNER", "BeamConfig", "DataflowBeam", "DirectBeam", "EngineConfig", "FlinkBeam", "PrismBeam",
    "SparkBeam", "engine_of", "place_beam",
]  # fmt: skip

LOCAL_RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's portable runner inside the process: the plain DirectRunner first tries to download another."""


def _form(pattern: str, shown: str) -> AfterValidator:
    """Return the check of a text's form, which its error names where pydantic's would show the pattern."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"an address must be written as {shown}. Received: {text}")
        return text

    return AfterValidator(check)


_ADDRESS = r"[^\s:/]+:\d{1,5}"
_Endpoint = Annotated[str, _form(_ADDRESS, "HOST:PORT")]
_FlinkMaster = Annotated[str, _form(rf"\[(local|auto|collection)\]|{_ADDRESS}", "HOST:PORT or [local]")]
_SparkMaster = Annotated[
    str, _form(rf"spark://{_ADDRESS}|local|local\[(\d+|\*)\]", "spark://HOST:PORT, local or local[N]")
]
_Count = Annotated[int, Field(ge=1, le=100_000)]
_Gcs = Annotated[str, Field(pattern=r"^gs://[^/{}]+(/[^{}]*)?$")]
_BeamNode = Literal["ingest", "statistics", "transform", "crossval", "evaluation"]


class _Engine(Section):
    """What all engines share.

    Attributes:
        args: Further Beam pipeline options, such as `--experiments=NAME`; they win over those made here.
    """

    args: Annotated[tuple[Annotated[str, Field(pattern=r"^--\w")], ...], MAY_HOLD_SECRET] = ()

    @model_validator(mode="after")
    def _args_keep_the_runner(self) -> "_Engine":
        named = [arg for arg in self.args if arg.partition("=")[0] == "--runner"]
        if named:
            raise ValueError(f"`args` must not choose the runner; set `runner`. Received: {named[0]}")
        return self

    def pipeline_args(self) -> tuple[str, ...]:
        """Return Beam pipeline options, runner included."""
        return (*self._own_args(), *self.args)

    def _own_args(self) -> tuple[str, ...]:
        raise NotImplementedError


class DirectEngine(_Engine):
    """In the step's own process, with headrace's fast executors in place of Beam where there is one.

    Attributes:
        runner: `direct`; the default.
    """

    runner: Literal["direct"] = "direct"

    def _own_args(self) -> tuple[str, ...]:
        return (LOCAL_RUNNER,)


class _Portable(_Engine):
    """What engines behind one of Beam's job servers share.

    Attributes:
        environment: Where Python runs: `loopback` in the step's process, `process` as a process that each
            worker of the engine starts, `docker` in a container beside it, `external` at a worker pool.
        process_command: Program that starts a worker, with `process`: Beam's `boot`.
        process_env: Its environment variables.
        container_image: Image with Beam's `boot` and headrace, with `docker`.
        worker_address: HOST:PORT of the worker pool, with `external`.
        workers: Python processes on each worker of the engine.
        job_endpoint: HOST:PORT of a job server that runs already; null: one is started for the step.
    """

    environment: Literal["loopback", "process", "docker", "external"] = "loopback"
    process_command: Annotated[str | None, MAY_HOLD_SECRET] = None
    process_env: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], str], MAY_HOLD_SECRET] = (
        Field(default_factory=dict)
    )
    container_image: Annotated[str, Field(pattern=r"^[\w][\w./:@-]*$")] | None = None
    worker_address: _Endpoint | None = None
    workers: _Count = 1
    job_endpoint: _Endpoint | None = None

    @model_validator(mode="after")
    def _environment_is_whole(self) -> "_Portable":
        needed = {
            "process": ("process_command", self.process_command),
            "docker": ("container_image", self.container_image),
            "external": ("worker_address", self.worker_address),
        }
        for environment, (field, value) in needed.items():
            if (self.environment == environment) != (value is not None):
                given = "no value" if value is None else value
                raise ValueError(
                    f"`environment: {environment}` and `{field}` go together. "
                    f"Received: environment {self.environment}, and {given} as `{field}`"
                )
        if self.process_env and self.environment != "process":
            raise ValueError(
                f"`process_env` needs `environment: process`. Received: environment {self.environment}"
            )
        return self

    def _environment_args(self) -> tuple[str, ...]:
        args = [
            f"--environment_type={self.environment.upper()}",
            f"--sdk_worker_parallelism={self.workers}",
        ]
        if self.process_command is not None:
            config = {"command": self.process_command, "env": self.process_env}
            args.append(f"--environment_config={json.dumps(config, sort_keys=True)}")
        for value in (self.container_image, self.worker_address):
            if value is not None:
                args.append(f"--environment_config={value}")
        if self.job_endpoint is not None:
            args.append(f"--job_endpoint={self.job_endpoint}")
        return tuple(args)


class FlinkEngine(_Portable):
    """Apache Flink, through Beam's job server.

    Attributes:
        runner: `flink`.
        master: REST address HOST:PORT of the cluster; `[local]` starts Flink inside the job server.
        version: Flink's version, which the job server must be made for.
        parallelism: Parallel parts of each operator; null: the cluster's default.
        max_parallelism: Key groups, the bound of rescaling; null: Flink's choice.
        job_server_jar: Path or URL of Beam's Flink job server; relative paths start at the config. null: Beam
            downloads the one of its own version.
        uber_jar: Whether the job is sent to `master` as one jar, without a job server; excludes loopback.
    """

    runner: Literal["flink"]
    master: _FlinkMaster = "[local]"
    version: Literal["1.19", "1.20", "2.0", "2.1", "2.2"] = "1.19"
    parallelism: _Count | None = None
    max_parallelism: _Count | None = None
    job_server_jar: Annotated[RemoteFile | None, MAY_HOLD_SECRET] = None
    uber_jar: bool = False

    @model_validator(mode="after")
    def _uber_jar_has_a_cluster(self) -> "FlinkEngine":
        if self.uber_jar and (self.master.startswith("[") or self.environment == "loopback"):
            raise ValueError(
                "`uber_jar` needs the address of a cluster as `master`, and an `environment` other than "
                f"loopback. Received: master {self.master}, environment {self.environment}"
            )
        return self

    def _own_args(self) -> tuple[str, ...]:
        args = ["--runner=FlinkRunner", f"--flink_master={self.master}", f"--flink_version={self.version}"]
        if self.parallelism is not None:
            args.append(f"--parallelism={self.parallelism}")
        if self.max_parallelism is not None:
            args.append(f"--max_parallelism={self.max_parallelism}")
        if self.job_server_jar is not None:
            args.append(f"--flink_job_server_jar={self.job_server_jar}")
        if self.uber_jar:
            args.append("--flink_submit_uber_jar")
        return (*args, *self._environment_args())


class SparkEngine(_Portable):
    """Apache Spark 3, through Beam's job server. Made after Beam's documentation; not run by the tests.

    Attributes:
        runner: `spark`.
        master: `spark://HOST:PORT`, `local` or `local[N]`.
        job_server_jar: Path or URL of Beam's Spark job server; relative paths start at the config. null: Beam
            downloads the one of its own version.
        uber_jar: Whether the job is sent to `rest_url` as one jar, without a job server; excludes loopback.
        rest_url: Spark's REST endpoint, with `uber_jar`.
    """

    runner: Literal["spark"]
    master: _SparkMaster = "local[2]"
    job_server_jar: Annotated[RemoteFile | None, MAY_HOLD_SECRET] = None
    uber_jar: bool = False
    rest_url: Annotated[Annotated[str, Field(pattern=r"^https?://\S+$")] | None, MAY_HOLD_SECRET] = None

    @model_validator(mode="after")
    def _uber_jar_has_an_address(self) -> "SparkEngine":
        if self.uber_jar != (self.rest_url is not None):
            raise ValueError(
                f"`uber_jar` and `rest_url` go together. Received: uber_jar {self.uber_jar}, "
                f"rest_url {self.rest_url}"
            )
        if self.uber_jar and self.environment == "loopback":
            raise ValueError("`uber_jar` needs another `environment` than loopback. Received: loopback")
        return self

    def _own_args(self) -> tuple[str, ...]:
        args = ["--runner=SparkRunner", f"--spark_master_url={self.master}", "--spark_version=3"]
        if self.job_server_jar is not None:
            args.append(f"--spark_job_server_jar={self.job_server_jar}")
        if self.uber_jar:
            args += ["--spark_submit_uber_jar", f"--spark_rest_url={self.rest_url}"]
        return (*args, *self._environment_args())


class DataflowEngine(_Engine):
    """Google Cloud Dataflow. Made after Google's documentation; not run by the tests.

    Attributes:
        runner: `dataflow`.
        project: Google Cloud project.
        region: Region of the workers.
        temp_location: gs:// folder for scratch files.
        staging_location: gs:// folder for what workers load; null: Dataflow's choice below `temp_location`.
        container_image: Image of the workers, with headrace and Beam in the versions of the submitting step.
        machine_type: Compute Engine machine type; null: Dataflow's choice.
        workers: Workers at the start; null: Dataflow's choice.
        max_workers: Most workers; null: Dataflow's choice.
        disk_gb: Disk of a worker, GB; null: Dataflow's choice.
        service_account: Email of the workers' service account; null: the project's default.
        subnetwork: Subnetwork of the workers; null: the default network.
        public_ips: Whether workers have public addresses.
        labels: Labels of the job.
        experiments: Dataflow experiments.
    """

    runner: Literal["dataflow"]
    project: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
    region: Annotated[str, Field(pattern=r"^[a-z]+-[a-z]+\d+$")]
    temp_location: _Gcs
    staging_location: _Gcs | None = None
    container_image: Annotated[str, Field(pattern=r"^[\w][\w./:@-]*$")]
    machine_type: str | None = None
    workers: _Count | None = None
    max_workers: _Count | None = None
    disk_gb: Annotated[int, Field(ge=10, le=65_536)] | None = None
    service_account: Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$")] | None = None
    subnetwork: str | None = None
    public_ips: bool = True
    labels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")], str] = Field(default_factory=dict)
    experiments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _workers_have_room(self) -> "DataflowEngine":
        if self.workers and self.max_workers and self.workers > self.max_workers:
            raise ValueError(
                f"`workers` must not exceed `max_workers`. Received: {self.workers} and {self.max_workers}"
            )
        return self

    def _own_args(self) -> tuple[str, ...]:
        options: dict[str, Any] = {
            "runner": "DataflowRunner",
            "project": self.project,
            "region": self.region,
            "temp_location": self.temp_location,
            "staging_location": self.staging_location,
            "sdk_container_image": self.container_image,
            # The image holds the SDK and headrace: nothing is installed when a worker starts.
            "sdk_location": "container",
            "worker_machine_type": self.machine_type,
            "num_workers": self.workers,
            "max_num_workers": self.max_workers,
            "disk_size_gb": self.disk_gb,
            "service_account_email": self.service_account,
            "subnetwork": self.subnetwork,
        }
        args = [f"--{name}={value}" for name, value in options.items() if value is not None]
        args += [] if self.public_ips else ["--no_use_public_ips"]
        args += [f"--labels={key}={value}" for key, value in sorted(self.labels.items())]
        return (*args, *(f"--experiments={name}" for name in self.experiments))


class PrismEngine(_Engine):
    """Beam's own portable runner, a Go program; on one machine.

    Attributes:
        runner: `prism`.
        location: Path or URL of the `prism` binary; relative paths start at the config. null: Beam downloads
            the one of its own version.
        job_endpoint: HOST:PORT of a Prism that runs already; null: one is started for the step.
        log_level: What Prism says.
    """

    runner: Literal["prism"]
    location: Annotated[RemoteFile | None, MAY_HOLD_SECRET] = None
    job_endpoint: _Endpoint | None = None
    log_level: Literal["debug", "info", "warn", "error"] = "warn"

    def _own_args(self) -> tuple[str, ...]:
        args = ["--environment_type=LOOPBACK", f"--prism_log_level={self.log_level}"]
        if self.job_endpoint is not None:
            return ("--runner=PortableRunner", f"--job_endpoint={self.job_endpoint}", *args)
        if self.location is not None:
            args.append(f"--prism_location={self.location}")
        return ("--runner=PrismRunner", *args)


def _name_runner(section: Any) -> Any:
    return {"runner": "direct", **section} if isinstance(section, dict) else section


EngineConfig = Annotated[
    Annotated[
        DirectEngine | FlinkEngine | SparkEngine | DataflowEngine | PrismEngine,
        Field(discriminator="runner"),
    ],
    BeforeValidator(_name_runner),
]
"""The engine of one node; without `runner` it is direct."""


class _PerNode(Section):
    """Exceptions.

    Attributes:
        nodes: Node -> the engine that it has instead: all of its options, none is inherited.
    """

    nodes: dict[_BeamNode, EngineConfig] = Field(default_factory=dict)


class DirectBeam(DirectEngine, _PerNode):
    """The default: Beam inside the step's own process, fast executors instead of it where there are."""


class FlinkBeam(FlinkEngine, _PerNode):
    """Apache Flink for all nodes that use Beam, through Beam's job server."""


class SparkBeam(SparkEngine, _PerNode):
    """Apache Spark 3 for all nodes that use Beam. Made after Beam's documentation; not run by the tests."""


class DataflowBeam(DataflowEngine, _PerNode):
    """Google Cloud Dataflow for all nodes that use Beam. Made after its documentation; not run by tests."""


class PrismBeam(PrismEngine, _PerNode):
    """Prism, Beam's own runner, a Go program on one machine, for all nodes that use Beam."""


BeamConfig = Annotated[
    Annotated[
        DirectBeam | FlinkBeam | SparkBeam | DataflowBeam | PrismBeam,
        Field(discriminator="runner"),
    ],
    BeforeValidator(_name_runner),
]
"""The engine of all nodes that use Beam; without `runner` it is direct."""


def engine_of(beam: BeamConfig, node_id: str) -> EngineConfig:
    """Return the engine of a node: its own, or else everybody's."""
    nodes: Mapping[Any, EngineConfig] = beam.nodes
    return nodes.get(node_id, beam)


def place_beam(beam: BeamConfig, folder: Path) -> BeamConfig:
    """Return the section with absolute paths of job servers and binaries.

    Args:
        beam: As it was written.
        folder: Absolute folder where relative paths start.
    """
    nodes = {name: _placed(engine, folder) for name, engine in beam.nodes.items()}
    return _placed(beam, folder).model_copy(update={"nodes": nodes})


def _placed(engine: Any, folder: Path) -> Any:
    update = {}
    for field in ("job_server_jar", "location"):
        path = getattr(engine, field, None)
        if path is not None and "://" not in path:
            update[field] = os.path.normpath(folder / path)
    return engine.model_copy(update=update)
