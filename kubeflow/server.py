"""A Kubeflow Pipelines server through kfp's own client: submit, schedule, watch, read logs, cancel."""

import contextlib
import io
import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.data.errors import ConfigError, EnvironmentProblem, HeadraceError

__all__ = ["Access", "RunState", "Server", "StepState", "find_access"]

HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
NAMESPACE_VARIABLE = "HEADRACE_KFP_NAMESPACE"
TOKEN_VARIABLE = "HEADRACE_KFP_TOKEN"

_TIMEOUT_S = 30.0
_WRONG_REQUEST = (400, 404, 409, 422)
_HINTS = {
    401: f"give a token by --token-file or {TOKEN_VARIABLE}",
    403: "the token's user may not do this in this namespace",
    404: "see the id, and the namespace",
    413: "the pipeline or its parameters are too large for this server",
}
_LOG_PATHS = (
    "/apis/v2beta1/runs/{run}/nodes/{pod}/log",
    # Servers before 2.17 have it here alone.
    "/apis/v1alpha1/runs/{run}/nodes/{pod}/log",
)
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Access:
    """How a server is reached.

    Attributes:
        host: URL of the API server, or of the UI, which passes requests on.
        namespace: Of the profile, on a multi-user installation; "" on others.
        token: Bearer token, "" for none.
        ca_cert: File with the certificate authority of the server; "" for the system's.
    """

    host: str
    namespace: str = ""
    token: str = ""
    ca_cert: str = ""

    def __repr__(self) -> str:
        return f"Access({self.host!r}, {self.namespace!r}, token={'given' if self.token else 'none'})"


@dataclass(frozen=True)
class StepState:
    """A step of a run.

    Attributes:
        name: Name of the step.
        state: As Kubeflow names it, such as RUNNING.
        pods: Pods of the step, whose logs can be read.
        error: What the server says of it, "" if nothing.
    """

    name: str
    state: str
    pods: tuple[str, ...]
    error: str


@dataclass(frozen=True)
class RunState:
    """A run.

    Attributes:
        run_id: Its id, which is also headrace's.
        state: As Kubeflow names it.
        error: What the server says of it, "" if nothing.
        steps: In the order in which they began.
    """

    run_id: str
    state: str
    error: str
    steps: tuple[StepState, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in _ENDED


def find_access(
    host: str | None, namespace: str | None, token_file: str | None, ca_cert: str | None = None
) -> Access:
    """Return how to reach the server: options first, then environment variables.

    Raises:
        ConfigError: If there is no host, or the file of the token cannot be read.
    """
    found = host or os.environ.get(HOST_VARIABLE, "")
    if not found.startswith(("http://", "https://")):
        raise ConfigError(
            f"`--host` must be the URL of a Kubeflow Pipelines server. Received: {found or 'none'}",
            f"give --host or set {HOST_VARIABLE}",
        )
    address = urllib.parse.urlsplit(found)
    if address.username or address.password:
        raise ConfigError("`--host` must hold no user and no password. Received: a URL with one")
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token_file is not None:
        try:
            token = Path(token_file).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"`--token-file` must be readable. Received: {token_file} ({error.strerror})"
            ) from error
    if ca_cert is not None and not Path(ca_cert).is_file():
        raise ConfigError(f"`--ca-cert` must be an existing file. Received: {ca_cert}")
    space = namespace if namespace is not None else os.environ.get(NAMESPACE_VARIABLE, "")
    return Access(found.rstrip("/"), space, token.strip(), ca_cert or "")


class Server:
    """A Kubeflow Pipelines server.

    Args:
        access: How it is reached.

    Raises:
        EnvironmentProblem: If it does not answer as one.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        health = self._get_json("/apis/v2beta1/healthz")
        if not isinstance(health, dict):
            raise EnvironmentProblem(
                f"{access.host} must be a Kubeflow Pipelines server. Received: no health"
            )
        if health.get("multi_user") and not access.namespace:
            raise ConfigError(
                f"a server with several users needs `--namespace`. Received: none ({access.host})"
            )
        with self._speaking():
            from kfp import Client

            self._client = Client(
                host=access.host,
                # With this name the client asks for none, and takes that of the machine's last session.
                namespace=access.namespace or "kubeflow",
                existing_token=access.token or None,
                ssl_ca_cert=access.ca_cert or None,
            )

    def submit(
        self, pipeline: Path, name: str, parameters: Mapping[str, Any], *, experiment: str,
        service_account: str | None = None,
    ) -> str:  # fmt: skip
        """Start a run of a compiled pipeline and return its id.

        Raises:
            HeadraceError: With what the server said.
        """
        with self._speaking():
            made = self._client.run_pipeline(
                self._experiment(experiment),
                name,
                pipeline_package_path=str(pipeline),
                params=dict(parameters),
                service_account=service_account,
            )
            return str(made.run_id)

    def schedule(
        self, pipeline: Path, name: str, parameters: Mapping[str, Any], *, experiment: str, cron: str,
        max_concurrency: int, catch_up: bool, service_account: str | None = None,
    ) -> str:  # fmt: skip
        """Let a compiled pipeline run again and again, and return the schedule's id.

        Args:
            pipeline: The compiled file.
            name: Name of the schedule and its runs.
            parameters: Of every run.
            experiment: Where runs are listed.
            cron: Seconds, minutes, hours, day of month, month, day of week; without seconds they are 0.
            max_concurrency: Most runs at a time, in [1, 10].
            catch_up: Whether runs that were missed, as while the schedule was paused, are made up for.
            service_account: Of the runs' pods.

        Raises:
            HeadraceError: If `cron` is none, or with what the server said.
        """
        fields = cron.split()
        if len(fields) not in (5, 6):
            raise ConfigError(f"`--cron` must have five fields, or six with seconds first. Received: {cron}")
        with self._speaking():
            made = self._client.create_recurring_run(
                self._experiment(experiment),
                name,
                cron_expression=" ".join(["0", *fields][-6:]),
                max_concurrency=max_concurrency,
                no_catchup=not catch_up,
                params=dict(parameters),
                pipeline_package_path=str(pipeline),
                service_account=service_account,
            )
            return str(made.recurring_run_id)

    def status(self, run_id: str) -> RunState:
        """Return the state of a run.

        Raises:
            HeadraceError: With what the server said.
        """
        with self._speaking():
            run = self._client.get_run(run_id)
        details = (run.run_details.task_details if run.run_details else None) or []
        begun = sorted(details, key=lambda one: str(one.start_time or one.create_time or ""))
        return RunState(
            run_id=str(run.run_id),
            state=str(run.state or "PENDING"),
            error=_message_of(run.error),
            steps=tuple(
                StepState(
                    str(one.display_name), str(one.state or "PENDING"), _pods(one), _message_of(one.error)
                )
                for one in begun
                if one.display_name
            ),
        )

    def logs(self, run_id: str, step: str) -> str:
        """Return the log of a step.

        Raises:
            ConfigError: If the run has no such step, or it has no pod yet.
            HeadraceError: With what the server said.
        """
        state = self.status(run_id)
        known = {one.name: one for one in state.steps}
        found = known.get(step) or known.get(step.replace("_", "-"))
        if found is None:
            raise ConfigError(
                f"a step must be one of {', '.join(known) or 'none yet'}. Received: {step} (run {run_id})"
            )
        if not found.pods:
            raise ConfigError(f"a step must have begun to have a log. Received: {step}, {found.state}")
        return "".join(self._log(run_id, pod) for pod in found.pods)

    def cancel(self, run_id: str) -> None:
        """Stop a run.

        Raises:
            HeadraceError: With what the server said.
        """
        with self._speaking():
            self._client.terminate_run(run_id)

    def _experiment(self, name: str) -> str:
        made = self._client.create_experiment(name, namespace=self._access.namespace or None)
        return str(made.experiment_id)

    def _log(self, run_id: str, pod: str) -> str:
        for position, path in enumerate(_LOG_PATHS):
            try:
                return self._get(path.format(run=urllib.parse.quote(run_id), pod=urllib.parse.quote(pod)))
            except ConfigError:
                if position == len(_LOG_PATHS) - 1:
                    raise
        raise AssertionError("a path is tried last")

    def _get_json(self, path: str) -> Any:
        text = self._get(path)
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            # What stands before the server answers, such as a page to sign in.
            raise EnvironmentProblem(
                f"{self._access.host} must answer as a Kubeflow Pipelines server. "
                f"Received: {' '.join(text.split())[:80] or 'nothing'}",
                _HINTS[401],
            ) from error

    def _get(self, path: str) -> str:
        import ssl

        headers = {"Authorization": f"Bearer {self._access.token}"} if self._access.token else {}
        request = urllib.request.Request(self._access.host + path, headers=headers)
        context = ssl.create_default_context(cafile=self._access.ca_cert or None)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:
                body: bytes = answer.read()
                return body.decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(self._access.host, error.code, error.reason, error.read()) from None
        except OSError as error:
            raise _unreachable(self._access.host, error) from error

    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what kfp's client raises and prints into headrace's errors and silence."""
        import urllib3
        from kfp_server_api import ApiException

        kept = socket.getdefaulttimeout()
        socket.setdefaulttimeout(_TIMEOUT_S)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except ApiException as error:
            raise _refused(self._access.host, error.status, str(error.reason), error.body) from None
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(self._access.host, error) from error
        except (ValueError, RuntimeError, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise EnvironmentProblem(
                f"{self._access.host} must answer as documented. Received: {text}"
            ) from error
        finally:
            socket.setdefaulttimeout(kept)


def _pods(task: Any) -> tuple[str, ...]:
    """Return the pods of a task: its own, else those of what it started."""
    if task.pod_name:
        return (str(task.pod_name),)
    return tuple(str(child.pod_name) for child in task.child_tasks or [] if child.pod_name)


def _message_of(status: Any) -> str:
    return "" if status is None else " ".join(str(status.message or "").split())


def _refused(host: str, status: int | None, reason: str, body: bytes | str | None) -> HeadraceError:
    """Return the error for an answer that is none, in a line."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    with contextlib.suppress(json.JSONDecodeError, AttributeError):
        parsed = json.loads(text)
        text = str(parsed.get("message") or parsed.get("error_message") or parsed.get("error") or text)
    if text.lstrip().startswith("<"):
        text = "a page for people"
    line = " ".join(text.split())[:300]
    message = f"{host} refused: {status} {reason}{f': {line}' if line else ''}"
    kind = ConfigError if status in _WRONG_REQUEST else EnvironmentProblem
    return kind(message, _HINTS.get(status or 0, ""))


def _unreachable(host: str, error: BaseException) -> EnvironmentProblem:
    reason = " ".join(str(getattr(error, "reason", None) or error).split())
    return EnvironmentProblem(f"{host} must be reachable. Received: {reason[:200]}")
