"""A stand-in of the Kubeflow Pipelines API server: the paths, bodies and errors of its v2beta1 swagger.

Request bodies are held to the models that kfp-server-api generates from that swagger, and answers are made of
them, so that a field which the swagger does not know is refused here as there.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api


@dataclass
class State:
    """What the server holds, and what was asked of it."""

    token: str = ""
    multi_user: bool = False
    log_path: str = "/apis/v2beta1"
    page: str = ""
    fail: tuple[int, str] | None = None
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


def unknown_fields(body: dict[str, Any], model: Any) -> list[str]:
    """Return fields of a body that the swagger's model does not have."""
    return sorted(set(body) - set(model.attribute_map.values()))


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        state = self.server.state
        url = urlsplit(self.path)
        state.seen.append(f"{self.command} {url.path}")
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        try:
            if state.token and self.headers.get("Authorization") != f"Bearer {state.token}":
                raise _Refused(401, "Request header error: there is no user identity header")
            if state.fail and not url.path.endswith("healthz"):
                raise _Refused(*state.fail)
            if state.page:
                return self._send(200, state.page.encode(), "text/html")
            found = self._route(url.path, parse_qs(url.query), body)
        except _Refused as error:
            status = {"code": 3, "message": str(error), "error": str(error), "details": []}
            return self._send(error.status, json.dumps(status).encode())
        if isinstance(found, str):
            return self._send(200, found.encode(), "text/plain")
        self._send(200, json.dumps(found).encode())

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _route(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> Any:
        state = self.server.state
        if path == "/apis/v2beta1/healthz":
            return {"multi_user": state.multi_user, "pipeline_store": "database"}
        if log := re.fullmatch(re.escape(state.log_path) + r"/runs/([^/]+)/nodes/([^/]+)/log", path):
            return state.logs[log[2]]
        if path == "/apis/v2beta1/experiments":
            return self._experiments(query, body)
        if path == "/apis/v2beta1/runs" and self.command == "POST":
            return self._create_run(body)
        if path == "/apis/v2beta1/recurringruns" and self.command == "POST":
            return self._create_schedule(body)
        if run := re.fullmatch(r"/apis/v2beta1/runs/([^/:]+)(:terminate)?", path):
            return self._run(run[1], run[2])
        raise _Refused(404, "Not Found")

    def _experiments(self, query: dict[str, list[str]], body: dict[str, Any]) -> Any:
        state = self.server.state
        if self.command == "POST":
            self._check(body, api.V2beta1Experiment)
            made = {**body, "experiment_id": f"e{len(state.experiments)}"}
            state.experiments.append(made)
            return made
        (predicate,) = json.loads(query["filter"][0])["predicates"]
        space = query.get("namespace", [""])[0]
        found = [
            one
            for one in state.experiments
            if one["display_name"] == predicate["stringValue"] and (one.get("namespace") or "") == space
        ]
        return {"experiments": found} if found else {}

    def _create_run(self, body: dict[str, Any]) -> Any:
        self._check(body, api.V2beta1Run)
        self._check_spec(body)
        run_id = f"run-{len(self.server.state.runs)}"
        self.server.state.runs[run_id] = {**body, "run_id": run_id, "state": "PENDING"}
        return self.server.state.runs[run_id]

    def _create_schedule(self, body: dict[str, Any]) -> Any:
        self._check(body, api.V2beta1RecurringRun)
        self._check_spec(body)
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise _Refused(400, "The max concurrency of the job is out of range. Support 1-10")
        schedule_id = f"schedule-{len(self.server.state.schedules)}"
        self.server.state.schedules[schedule_id] = {**body, "recurring_run_id": schedule_id}
        return self.server.state.schedules[schedule_id]

    def _run(self, run_id: str, action: str | None) -> Any:
        runs = self.server.state.runs
        if run_id not in runs:
            raise _Refused(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found.")
        if action:
            runs[run_id]["state"] = "CANCELING"
            return {}
        return runs[run_id]

    def _check(self, body: dict[str, Any], model: Any) -> None:
        if unknown := unknown_fields(body, model):
            raise _Refused(400, f"unknown field {unknown[0]}")

    def _check_spec(self, body: dict[str, Any]) -> None:
        spec = body["pipeline_spec"]
        spec = spec.get("pipeline_spec", spec)
        if spec.get("schemaVersion") != "2.1.0":
            raise _Refused(400, f"unsupported schema version {spec.get('schemaVersion')}")
        declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        parameters = (body.get("runtime_config") or {}).get("parameters") or {}
        for name in parameters:
            if name not in declared:
                raise _Refused(400, f"parameter {name} is not defined")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: State


@contextmanager
def running(state: State) -> Iterator[str]:
    """Serve `state` on loopback and give the URL."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
