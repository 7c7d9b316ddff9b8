"""What the documentation shows that no test runs as it stands, each with the reason."""

NOT_RUN = {
    # Targets of the Makefile: that they exist is tested.
    "make run": "fetches the flights, and takes minutes",
    "make test": "would run this test",
    "make": "a program that a machine needs",
    # A package index.
    "pip install": "downloads; that the extra exists is tested",
    "apt-get install": "changes the system",
    "headrace data fetch": "downloads; that the sample exists is tested",
    # Real data, minutes: the config is validated, the command parsed, and its output compared with a run's.
    "headrace run examples/": "needs fetched data, and takes minutes",
    "headrace predict push/lite/digits": "needs the model of an example that takes minutes",
    "headrace predict --model push/lite/vowels": "needs the model of an example that takes minutes",
    "head -2 answers.csv": "shows what the command before it would have written",
    "headrace predict push/lite/diamonds": "needs the model of an example that takes minutes",
    "headrace predict push/lite/tweets": "needs the model of an example that takes minutes",
    "python benchmarks/scale.py": "takes minutes; its options are tested",
    "python benchmarks/metadata_growth.py": "takes minutes; its options are tested",
    # Tested elsewhere with the same command.
    "headrace resume RUN": "tests/e2e/test_interrupts.py resumes runs",
    "headrace kubeflow simulate": "takes minutes; tests/kubeflow/test_simulate.py simulates",
    # Engines, clusters and tools that are not here.
    "docker build": "needs a container engine",
    "docker compose": "needs a container engine",
    "MODELS=/elsewhere docker compose up": "needs a container engine",
    "kubectl delete": "needs a cluster",
    "aws s3 sync": "needs a bucket",
    "grpcurl": "no package of it is at hand",
    "java -jar job-server.jar": "needs Flink",
    "python -m apache_beam.runners.worker.worker_pool_main": "a program of Beam's, for its workers",
    "make test-distributed": "fetches engines, and takes minutes",
    # Databases.
    "-- MariaDB, MySQL": "needs servers; tests/e2e/databases.py makes such users and databases",
    "error: `metadata.url` must name a database": "needs a database that dies; "
    "tests/e2e/test_metadata_databases.py kills one",
    # No config of headrace.
    "taskmanager.memory.network.min: 768m": "a file of Flink's",
}
"""Start of a command, or of another block's first line -> why it is not run."""


SUBSTITUTIONS = {
    ".venv/bin/": "",
    "localhost:8500": "127.0.0.1:{grpc}",
    "localhost:8501": "127.0.0.1:{rest}",
    "/srv/": "{folder}/",
    "resume RUN": "resume {run}",
    "why RUN": "why {run}",
    "https://kubeflow.example/pipeline": "{kubeflow}",
    "status RUN": "status run-0",
    "logs RUN": "logs run-0",
    "cancel RUN": "cancel run-0",
    "ROOT/runs": "runs",
    "CONFIG": "examples/flights.yaml",
    "DATA --label NAME": "data.csv --label churned",
}
"""What stands in the documents -> what stands for it where they are tested (see World.values)."""

SMALL = {
    "data": {"shards": 1},
    "features": {
        **dict.fromkeys(("day_origin", "day_block_origin", "day_dest", "day_carrier_origin")),
        **{name: {"kind": "numeric"} for name in ("month", "day")},
    },
    "training": {"epochs": 3, "batch_size": 128, "learning_rate": 0.01},
    "tuning": {"enabled": False},
    "evaluation": {"bootstrap_samples": 20, "slices": [["carrier"]]},
    "variants": {"build": ["float32", "int8_weights", "tflite_int8"]},
    "gates": {
        "quality": [{"metric": "auc", "min": 0.6, "max_drop": 0.005}],
        "serving": {"latency_s": 0.02},
        "variant": {"max_drop": 0.05, "max_slice_drop": 0.3, "max_flip_rate": 0.2},
        "cost": [{"variant": "tflite_int8", "max_size_ratio": 1.0}],
    },
}
"""What examples/flights.yaml is changed to, for few rows in little time; None takes a key out."""


def not_run(text: str) -> list[str]:
    """Return the entries under which a command or block falls."""
    return [start for start in NOT_RUN if text == start or text.startswith((f"{start} ", f"{start}\n"))
            or (start.endswith("/") and text.startswith(start)) or f"| {start}" in text
            or (start.startswith(("error", "--")) and text.startswith(start))]  # fmt: skip
