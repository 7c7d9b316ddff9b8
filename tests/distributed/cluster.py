"""A Flink cluster on this machine: one JobManager and one TaskManager with two slots, of Flink's own jars."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from scripts.beam.job_server import OPENED

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ROOT / "build/beam"
SLOTS = 2
START_S = 120

_CONFIG = """
jobmanager:
  bind-host: localhost
  rpc: {{address: localhost, port: {rpc}}}
  memory: {{process: {{size: 1200m}}}}
taskmanager:
  bind-host: localhost
  host: localhost
  numberOfTaskSlots: {slots}
  memory:
    process: {{size: 3000m}}
    # TFDV's and TFMA's jobs are wide, and every exchange of a batch job holds buffers.
    network: {{min: 768m, max: 768m}}
  network: {{sort-shuffle: {{min-buffers: 64}}}}
parallelism: {{default: {slots}}}
rest: {{address: localhost, bind-address: localhost, port: {rest}}}
blob: {{server: {{port: {blob}}}}}
io: {{tmp: {{dirs: {scratch}}}}}
"""


class FlinkCluster:
    """Starts on entry, on free ports; both processes are gone on exit.

    Args:
        folder: For configuration, logs and scratch files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.rest = free_port()

    def __enter__(self) -> "FlinkCluster":
        config = _CONFIG.format(
            rpc=free_port(), blob=free_port(), rest=self.rest, slots=SLOTS, scratch=self._folder
        )
        (self._folder / "conf").mkdir(parents=True)
        (self._folder / "conf/config.yaml").write_text(config, encoding="utf-8")
        runtime = "org.apache.flink.runtime"
        jvm, dynamic = self._memory()
        try:
            self._start(
                "jobmanager", ["-Xmx700m"], f"{runtime}.entrypoint.StandaloneSessionClusterEntrypoint", []
            )
            self._start("taskmanager", jvm, f"{runtime}.taskexecutor.TaskManagerRunner", dynamic)
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that the cluster has seen, as its REST API tells them."""
        found: list[dict[str, Any]] = self._get("jobs/overview")["jobs"]
        return sorted(found, key=lambda job: int(job["start-time"]))

    def parallelism(self, job: str) -> int:
        """Return the largest parallelism of a job's vertices."""
        return max(int(vertex["parallelism"]) for vertex in self._get(f"jobs/{job}")["vertices"])

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://localhost:{self.rest}/{path}", timeout=10) as answer:
            return json.load(answer)

    def _memory(self) -> tuple[list[str], list[str]]:
        """Return the JVM options and settings of a TaskManager; Flink's own start scripts ask the same."""
        tool = "org.apache.flink.runtime.util.bash.BashJavaUtils"
        paths = [str(ENGINES / "flink/bin/bash-java-utils.jar"), str(ENGINES / "flink/lib/*")]
        done = subprocess.run(
            ["java", "-cp", ":".join(paths), tool, "GET_TM_RESOURCE_PARAMS", "--configDir",
             str(self._folder / "conf"), "--bin-dir", "bin", "--lib-dir", "lib"],
            capture_output=True, text=True, check=True, timeout=START_S,
        )  # fmt: skip
        mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
        jvm, dynamic = (
            line.partition(mark)[2].split() for line in done.stdout.splitlines() if line.startswith(mark)
        )
        return jvm, dynamic

    def _start(self, name: str, jvm: list[str], main: str, settings: list[str]) -> None:
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        command = ["java", *jvm, *opened, "-cp", str(ENGINES / "flink/lib/*"), main]
        command += ["--configDir", str(self._folder / "conf"), *settings]
        with open(self._folder / f"{name}.log", "wb") as log:
            self._processes.append(
                subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT,
                    env={**os.environ, "FLINK_PLUGINS_DIR": str(ENGINES / "flink/plugins")},
                )
            )  # fmt: skip

    def _wait(self) -> None:
        limit = time.monotonic() + START_S
        while time.monotonic() < limit:
            for process in self._processes:
                assert process.poll() is None, f"a Flink process ended; its log is in {self._folder}"
            try:
                if self._get("overview")["slots-available"] == SLOTS:
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise TimeoutError(f"Flink had no {SLOTS} slots after {START_S} s; its logs are in {self._folder}")


def free_port() -> int:
    """Return a port that nothing listened on just now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
