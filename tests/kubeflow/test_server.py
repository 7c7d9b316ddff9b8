"""The commands that speak to a server, against a stand-in that answers as the swagger says."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from headrace.data.errors import ConfigError, EnvironmentProblem, HeadraceError
from headrace.kubeflow.cli import group
from headrace.kubeflow.compile import compile_pipeline
from headrace.kubeflow.server import Access, Server, find_access
from tests.e2e.project import CONFIG, Project

from .kfp_server import State, running

Run = Callable[..., Result]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def host(state: State) -> Iterator[str]:
    with running(state) as url:
        yield url


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("server")
    section = {"parameters": ["training.epochs"], "service_account": "trainer"}
    Project.make(folder, rows=50).write_config({**CONFIG, "kubeflow": section})
    return compile_pipeline(folder / "demo.yaml", folder / "pipeline.yaml").path


@pytest.fixture
def run(host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    # The client keeps what the last session used below the home.
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KF_PIPELINES_ENDPOINT", "HEADRACE_KFP_NAMESPACE", "HEADRACE_KFP_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(group, [*arguments, "--host", host])

    return call


def task(name: str, state: str, pod: str = "", **more: Any) -> dict[str, Any]:
    return {"display_name": name, "state": state, "pod_name": pod, "run_id": "run-0", **more}


def test_submit_sends_the_compiled_file_and_only_what_was_given(
    run: Run, pipeline: Path, state: State
) -> None:
    done = run("submit", str(pipeline), "--param", "training_epochs=7", "--name", "nightly")
    assert done.exit_code == 0, done.output
    assert done.stdout == "run-0\n"
    sent = state.runs["run-0"]
    assert sent["display_name"] == "nightly"
    assert sent["runtime_config"]["parameters"] == {"training_epochs": 7}
    spec = sent["pipeline_spec"]
    assert spec["pipeline_spec"]["pipelineInfo"]["name"] == "demo"
    assert "exec-trainer" in spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert [one["display_name"] for one in state.experiments] == ["headrace"]


def test_submit_compiles_a_config_and_takes_its_service_account(
    run: Run, pipeline: Path, state: State
) -> None:
    done = run("submit", str(pipeline.parent / "demo.yaml"), "--set", "training.epochs=2")
    assert done.exit_code == 0, done.output
    assert state.runs["run-0"]["service_account"] == "trainer"
    spec = state.runs["run-0"]["pipeline_spec"]["pipeline_spec"]
    assert spec["root"]["inputDefinitions"]["parameters"]["training_epochs"]["defaultValue"] == 2.0


def test_what_the_config_wishes_survives_compile_and_submit_of_the_file(
    run: Run, pipeline: Path, state: State, tmp_path: Path
) -> None:
    overrides = ("kubeflow.experiment=nights", "kubeflow.run_name=nightly")
    made = compile_pipeline(pipeline.parent / "demo.yaml", tmp_path / "p.yaml", overrides)
    for options in ((), ("--name", "mine", "--experiment", "days", "--service-account", "other")):
        assert run("submit", str(made.path), *options).exit_code == 0
    first, second = state.runs["run-0"], state.runs["run-1"]
    assert (first["display_name"], first["service_account"]) == ("nightly", "trainer")
    assert (second["display_name"], second["service_account"]) == ("mine", "other")
    assert [one["display_name"] for one in state.experiments] == ["nights", "days"]
    assert run("schedule", str(made.path), "--cron", "30 3 * * *").exit_code == 0
    assert state.schedules["schedule-0"]["display_name"] == "nightly"
    assert state.schedules["schedule-0"]["service_account"] == "trainer"


def test_an_experiment_is_made_once(run: Run, pipeline: Path, state: State) -> None:
    for _ in range(2):
        assert run("submit", str(pipeline)).exit_code == 0
    assert len(state.experiments) == 1
    assert len(state.runs) == 2


@pytest.mark.parametrize(
    ("cron", "sent"), [("30 3 * * *", "0 30 3 * * *"), ("5 30 3 * * 1-5", "5 30 3 * * 1-5")]
)
def test_schedule_sends_cron_concurrency_and_catch_up(
    cron: str, sent: str, run: Run, pipeline: Path, state: State
) -> None:
    done = run("schedule", str(pipeline), "--cron", cron, "--max-concurrency", "2", "--catch-up")
    assert done.exit_code == 0, done.output
    body = state.schedules["schedule-0"]
    assert body["trigger"]["cron_schedule"]["cron"] == sent
    assert int(body["max_concurrency"]) == 2
    assert body["no_catchup"] is False
    assert body["mode"] == "ENABLE"


def test_by_default_missed_runs_are_not_made_up_for(run: Run, pipeline: Path, state: State) -> None:
    assert run("schedule", str(pipeline), "--cron", "0 3 * * *").exit_code == 0
    assert state.schedules["schedule-0"]["no_catchup"] is True


def test_status_tells_steps_in_the_order_they_began(run: Run, state: State) -> None:
    state.runs["run-0"] = {
        "run_id": "run-0",
        "state": "FAILED",
        "error": {"code": 2, "message": "verdict\nfailed"},
        "run_details": {
            "task_details": [
                task(
                    "verdict",
                    "FAILED",
                    "p2",
                    start_time="2026-01-01T00:02:00Z",
                    error={"message": "exit code 3"},
                ),
                task("ingest", "SUCCEEDED", "p1", start_time="2026-01-01T00:01:00Z"),
            ]
        },
    }
    done = run("status", "run-0")
    assert done.exit_code == 1
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["run-0", "FAILED", "verdict", "failed"],
        ["ingest", "SUCCEEDED"],
        ["verdict", "FAILED", "exit", "code", "3"],
    ]
    found = json.loads(run("status", "run-0", "--json").stdout)
    assert [step["pods"] for step in found["steps"]] == [["p1"], ["p2"]]


def test_status_of_a_run_that_goes_on_is_no_failure(run: Run, pipeline: Path) -> None:
    run("submit", str(pipeline))
    done = run("status", "run-0")
    assert (done.exit_code, done.stdout) == (0, "run-0  PENDING\n")


@pytest.mark.parametrize("path", ["/apis/v2beta1", "/apis/v1alpha1"])
def test_logs_are_read_from_servers_old_and_new(path: str, run: Run, state: State) -> None:
    state.log_path = path
    details = [
        task("ingest", "SUCCEEDED", "p1"),
        task("data-verdict", "RUNNING", child_tasks=[{"pod_name": "p2"}]),
        task("push", "PENDING"),
    ]
    state.runs["run-0"] = {"run_id": "run-0", "state": "RUNNING", "run_details": {"task_details": details}}
    state.logs = {"p1": "4,000 rows\n", "p2": "go on\n"}
    assert run("logs", "run-0", "ingest").stdout == "4,000 rows\n"
    assert run("logs", "run-0", "data_verdict").stdout == "go on\n"
    missing = run("logs", "run-0", "serve").exception
    assert isinstance(missing, ConfigError)
    assert "must be one of" in missing.message
    early = run("logs", "run-0", "push").exception
    assert isinstance(early, ConfigError)
    assert "must have begun" in early.message


def test_cancel_terminates(run: Run, pipeline: Path, state: State) -> None:
    run("submit", str(pipeline))
    assert run("cancel", "run-0").exit_code == 0
    assert state.runs["run-0"]["state"] == "CANCELING"


def test_a_token_comes_from_a_file_or_the_environment_and_is_never_shown(
    run: Run, pipeline: Path, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.token = "hush"
    refused = run("submit", str(pipeline)).exception
    assert isinstance(refused, EnvironmentProblem)
    assert "401" in refused.message
    assert "--token-file" in refused.hint
    (tmp_path / "token").write_text("hush\n")
    assert run("submit", str(pipeline), "--token-file", str(tmp_path / "token")).exit_code == 0
    monkeypatch.setenv("HEADRACE_KFP_TOKEN", "hush")
    assert run("submit", str(pipeline)).exit_code == 0
    assert "hush" not in repr(find_access("http://host", None, None))
    assert "hush" not in pipeline.read_text()


def test_a_server_of_several_users_wants_a_namespace(run: Run, pipeline: Path, state: State) -> None:
    state.multi_user = True
    refused = run("submit", str(pipeline)).exception
    assert isinstance(refused, ConfigError)
    assert "needs `--namespace`" in refused.message
    done = run("submit", str(pipeline), "--namespace", "team")
    assert done.exit_code == 0
    assert state.experiments[0]["namespace"] == "team"
    assert re.search(r"status run-0 --host http://\S+ --namespace team\n", done.stderr)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ConfigError),
        (403, EnvironmentProblem),
        (409, ConfigError),
        (500, EnvironmentProblem),
        (503, EnvironmentProblem),
    ],
)
@pytest.mark.parametrize("command", ["submit", "schedule", "status", "logs", "cancel"])
def test_every_refusal_is_told_in_a_line(
    command: str, status: int, kind: type[HeadraceError], run: Run, pipeline: Path, state: State
) -> None:
    state.fail = (status, "Invalid input error:\n the reason")
    arguments = {
        "submit": [str(pipeline)],
        "schedule": [str(pipeline), "--cron", "0 3 * * *"],
        "status": ["run-0"],
        "logs": ["run-0", "ingest"],
        "cancel": ["run-0"],
    }[command]
    refused = run(command, *arguments).exception
    assert isinstance(refused, kind)
    assert f"refused: {status}" in refused.message
    assert "Invalid input error: the reason" in refused.message
    assert "\n" not in refused.message


def test_an_unknown_run_is_told(run: Run) -> None:
    refused = run("status", "nothing").exception
    assert isinstance(refused, ConfigError)
    assert "Run nothing not found" in refused.message


def test_a_page_to_sign_in_is_no_server(run: Run, pipeline: Path, state: State) -> None:
    state.page = "<html>Sign in</html>"
    refused = run("submit", str(pipeline)).exception
    assert isinstance(refused, EnvironmentProblem)
    assert "must answer as a Kubeflow Pipelines server" in refused.message


def test_nobody_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EnvironmentProblem, match=rf"http://127.0.0.1:{port} must be reachable"):
        Server(Access(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--param", "speed=1"], "Received: speed"),
        (["--param", "training_epochs=x"], "must be NUMBER_INTEGER"),
        (["--param", "training_epochs"], "of the form name=value"),
        (["--set", "seed=1"], "`--set` goes with a config"),
    ],
)
def test_wrong_parameters_send_nothing(
    arguments: list[str], message: str, run: Run, pipeline: Path, state: State
) -> None:
    refused = run("submit", str(pipeline), *arguments).exception
    assert isinstance(refused, ConfigError)
    assert message in refused.message
    assert state.seen == []


@pytest.mark.parametrize("host_given", ["", "ml-pipeline:8888", "ftp://host", "http://me:hush@host"])
def test_a_wrong_host_is_refused(host_given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT", raising=False)
    with pytest.raises(ConfigError, match=r"`--host` must") as caught:
        find_access(host_given, None, None)
    assert "hush" not in caught.value.message


def test_a_cron_of_other_length_is_refused(run: Run, pipeline: Path, state: State) -> None:
    refused = run("schedule", str(pipeline), "--cron", "@daily").exception
    assert isinstance(refused, ConfigError)
    assert "must have five fields" in refused.message
    assert not state.schedules
