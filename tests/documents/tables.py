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


def not_run(text: str) -> list[str]:
    """Return the entries under which a command or block falls."""
    return [start for start in NOT_RUN if text == start or text.startswith((f"{start} ", f"{start}\n"))
            or (start.endswith("/") and text.startswith(start)) or f"| {start}" in text
            or (start.startswith(("error", "--")) and text.startswith(start))]  # fmt: skip
