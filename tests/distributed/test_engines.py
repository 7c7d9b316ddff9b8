"""The same project in its own processes, on a Flink cluster and on Prism: one result."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv

from tests.distributed.cluster import ENGINES, ROOT, SLOTS, FlinkCluster
from tests.e2e.project import CONFIG, Project, make_rows

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(1800)]

BEAM_NODES = ("ingest", "statistics", "transform", "evaluation")
SPLITS = ("train", "eval", "test")


@dataclass(frozen=True)
class Run:
    """A finished run: its summary, and the one folder that each output of a node was written to."""

    summary: dict[str, Any]
    artifacts: Path

    def folder(self, node: str, output: str) -> Path:
        (found,) = (self.artifacts / node / output).iterdir()
        return found

    def findings(self) -> dict[str, str]:
        return {node["id"]: node["finding"] for node in self.summary["nodes"]}

    def metrics(self) -> dict[str, Any]:
        return {variant["name"]: variant["metrics"] for variant in self.summary["variants"]}


def carry_out(folder: Path, beam: dict[str, Any]) -> Run:
    """Run the small project, its rows in three files, with this `beam` section."""
    project = Project(folder)
    (folder / "rows").mkdir(parents=True)
    header, *rows = make_rows(folder).read_text(encoding="utf-8").splitlines()
    for number, (start, end) in enumerate(((0, 1500), (1500, 1501), (1501, len(rows)))):
        part = "\n".join([header, *rows[start:end]]) + "\n"
        (folder / f"rows/part-{number}.csv").write_text(part, encoding="utf-8")
    project.write_config(CONFIG | {"data": CONFIG["data"] | {"path": "rows"}, "beam": beam})
    ran = project.run()
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert servers_of(folder) == []
    return Run(project.summary(ran), folder / "runs/.store/artifacts")


def servers_of(folder: Path) -> list[str]:
    """Return the command lines of job servers that the steps of a project left behind."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            place = (process / "cwd").readlink()
        except OSError:
            continue  # it ended
        if place == folder.resolve() and str(ENGINES) in command:
            found.append(command)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return carry_out(tmp_path_factory.mktemp("alone"), {})


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    with FlinkCluster(tmp_path_factory.mktemp("flink") / "cluster") as running:
        yield running


def flink(cluster: FlinkCluster, **options: Any) -> dict[str, Any]:
    return {
        "runner": "flink",
        "master": f"localhost:{cluster.rest}",
        "parallelism": SLOTS,
        "job_server_jar": str(ENGINES / "jars/job-server.jar"),
        **options,
    }


def examples(folder: Path) -> dict[str, list[bytes]]:
    """Return the examples of every record file in order, columns of each sorted."""
    return {
        str(path.relative_to(folder)): [
            tf.train.Example.FromString(record).SerializeToString(deterministic=True)
            for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator()
        ]
        for path in sorted(folder.rglob("*.gz"))
    }


def statistics(folder: Path) -> dict[str, Any]:
    """Return what is exact in a split's statistics: counts, extremes, moments, the most frequent values."""
    message = tfdv.load_stats_binary(str(folder / "FeatureStats.pb")).datasets[0]
    found: dict[str, Any] = {"": message.num_examples}
    for feature in message.features:
        name = ".".join(feature.path.step)
        kind = feature.WhichOneof("stats")
        stats = getattr(feature, kind)
        found[f"{name} rows"] = (stats.common_stats.num_non_missing, stats.common_stats.num_missing)
        if kind == "num_stats":
            numbers = [stats.mean, stats.std_dev, stats.min, stats.max, float(stats.num_zeros)]
            found |= {f"{name} {place}": number for place, number in enumerate(numbers)}
        else:
            found[name] = (stats.unique, [(item.value, item.frequency) for item in stats.top_values])
    return found


def assert_same(one: Run, other: Run) -> None:
    """Hold a run to another: rows, statistics and vocabulary exactly, metrics to 1e-6."""
    assert other.summary["verdict"] == one.summary["verdict"] == "pushed"
    assert other.summary["data"] == one.summary["data"]
    written = [examples(run.folder("ingest", "examples")) for run in (one, other)]
    assert written[0]
    assert written[1] == written[0]
    for split in SPLITS:
        mine, theirs = (run.folder("statistics", "statistics") / f"Split-{split}" for run in (one, other))
        assert_close(statistics(mine), statistics(theirs), 1e-9)
    graphs = [run.folder("transform", "transform_graph") for run in (one, other)]
    assets = [
        {path.name: path.read_bytes() for path in (graph / "transform_fn/assets").iterdir()}
        for graph in graphs
    ]
    assert assets[0] == assets[1]
    assert assets[0]
    sidecars = [json.loads((graph / "headrace/preprocessing.json").read_text()) for graph in graphs]
    assert_close(numbers(sidecars[0]), numbers(sidecars[1]), 1e-6)
    assert other.metrics().keys() == one.metrics().keys()
    for name, metrics in one.metrics().items():
        assert_close(numbers(metrics), numbers(other.metrics()[name]), 1e-6)


def assert_close(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    """Hold floats to each other within `tolerance * max(1, |a|)`, everything else exactly."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, float):
            assert other[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name
        else:
            assert other[name] == value, name


def numbers(value: Any, path: str = "") -> dict[str, Any]:
    """Return every leaf of a document by its path."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in numbers(item, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for n, item in enumerate(value) for k, v in numbers(item, f"{path}/{n}").items()}
    return {path: value}


def test_on_prism(alone: Run, tmp_path: Path) -> None:
    spread = carry_out(tmp_path / "prism", {"runner": "prism", "location": str(ENGINES / "prism")})
    for node in BEAM_NODES:
        assert spread.findings()[node].endswith(", by Beam on prism"), node
        assert "by Beam" not in alone.findings()[node]
    assert_same(alone, spread)


def test_on_a_flink_cluster(alone: Run, cluster: FlinkCluster, tmp_path: Path) -> None:
    known = {job["jid"] for job in cluster.jobs()}
    spread = carry_out(tmp_path / "flink", flink(cluster))
    for node in BEAM_NODES:
        assert spread.findings()[node].endswith(", by Beam on flink"), node
    jobs = [job for job in cluster.jobs() if job["jid"] not in known]
    # The transform is fitted by one job and applied by another.
    assert [job["state"] for job in jobs] == ["FINISHED"] * (len(BEAM_NODES) + 1)
    assert {cluster.parallelism(job["jid"]) for job in jobs} == {SLOTS}
    assert_same(alone, spread)


def test_bad_content_is_told_through_flink(cluster: FlinkCluster, tmp_path: Path) -> None:
    project = Project(tmp_path)
    file = make_rows(tmp_path)
    file.write_text(file.read_text(encoding="utf-8") + "far,1,AA,JFK,1\n", encoding="utf-8")
    project.write_config(CONFIG | {"beam": flink(cluster)})
    ran = project.run()
    assert ran.exit_code == 4, ran.stderr
    assert "far" in ran.stderr
    assert "rows.csv" in ran.stderr


def test_ctrl_c_takes_the_job_along(cluster: FlinkCluster, tmp_path: Path) -> None:
    project = Project.make(tmp_path / "project")
    project.write_config(CONFIG | {"beam": flink(cluster)})
    known = {job["jid"] for job in cluster.jobs()}
    process = project.start("run", "demo.yaml")
    job = wait_for_job(cluster, known, {"RUNNING"})
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert (process.returncode, "interrupted in ingest" in stderr) == (130, True), stderr
    # With loopback the job fails where its workers, which are in the step, end before it is cancelled.
    assert wait_for_job(cluster, known, {"CANCELED", "FAILED"}) == job
    assert servers_of(project.folder) == []


def wait_for_job(cluster: FlinkCluster, known: set[str], wanted: set[str]) -> str:
    """Return the id of the one job that is not known, once it is in a wanted state."""
    limit = time.monotonic() + 120
    states: dict[str, str] = {}
    while time.monotonic() < limit:
        states = {job["jid"]: job["state"] for job in cluster.jobs() if job["jid"] not in known}
        if len(states) == 1 and wanted >= set(states.values()):
            return next(iter(states))
        time.sleep(0.2)
    raise TimeoutError(f"no job is {' or '.join(wanted)} after 120 s: {states}")


def carry_out_flights(folder: Path, beam: dict[str, Any]) -> Run:
    """Run examples/flights.yaml; only `beam` differs."""
    folder.mkdir()
    shutil.copy(ROOT / "build/data/flights.csv", folder / "flights.csv")
    shown = (ROOT / "examples/flights.yaml").read_text(encoding="utf-8")
    assert "../build/data/flights.csv" in shown
    text = shown.replace("../build/data/flights.csv", "flights.csv") + f"\nbeam: {json.dumps(beam)}\n"
    (folder / "demo.yaml").write_text(text, encoding="utf-8")
    project = Project(folder)
    ran = project.call("run", "demo.yaml", "--json", timeout_s=1800)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert servers_of(folder) == []
    return Run(project.summary(ran), folder / "runs/.store/artifacts")


@pytest.mark.timeout(3600)
def test_flights_on_flink(cluster: FlinkCluster, tmp_path: Path) -> None:
    """All 336,776 flights, the search and every gate included, with one section of the example changed."""
    alone = carry_out_flights(tmp_path / "alone", {})
    known = {job["jid"] for job in cluster.jobs()}
    spread = carry_out_flights(tmp_path / "flink", flink(cluster))
    assert spread.summary["data"]["rows"] == 336_776
    for node in BEAM_NODES:
        assert spread.findings()[node].endswith(", by Beam on flink"), node
    states = [job["state"] for job in cluster.jobs() if job["jid"] not in known]
    assert states == ["FINISHED"] * (len(BEAM_NODES) + 1)
    assert_same(alone, spread)
