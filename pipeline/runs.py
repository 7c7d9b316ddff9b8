"""Run a config from data to pushed models: the Python API behind the command line."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console

from headrace.data.errors import ConfigError, EnvironmentProblem, HeadraceError
from headrace.data.extras import require

from .check import check
from .config import RunConfig, load_config
from .identity import new_run_id
from .interrupts import counted_interrupts
from .local import NodeOutcome, run_nodes
from .lock import held
from .metadata_failure import check_reachable
from .outcome import shown_path
from .progress import TerminalReporter
from .store import Store, prepare_folder
from .summary import build_evidence, build_summary, write_atomically

__all__ = ["Report", "RunResult", "conclude", "find_run", "read_request", "run", "short_name"]

_REQUEST = "request.json"


@dataclass(frozen=True)
class Report:
    """The report of a run; a notebook shows it in place.

    Attributes:
        path: The file, report.html.
    """

    path: str

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    @property
    def html(self) -> str:
        """The page: whole, and without a link to anything outside."""
        return Path(self.path).read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        # A frame, because its styles are for a page of its own.
        return f'<iframe srcdoc="{escape(self.html)}" style="width: 100%; height: 80vh; border: 0"></iframe>'


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        run_id: Id of the run.
        verdict: "pushed", "rejected", "data_rejected", "failed" or "interrupted".
        exit_code: What the command line exits with.
        summary: Content of summary.json.
        summary_path, report_path: Where they lie.
        error: What stopped the run, or None.
    """

    run_id: str
    verdict: str
    exit_code: int
    summary: dict[str, Any] = field(repr=False)
    summary_path: str
    report_path: str
    error: HeadraceError | None

    @property
    def variants(self) -> list[dict[str, Any]]:
        """The variants with their metrics, as in summary.json."""
        return list(self.summary["variants"])

    @property
    def report(self) -> Report:
        """The report, as a file and as what a notebook shows."""
        return Report(self.report_path)

    def _repr_html_(self) -> str:
        metrics = list(next((v["metrics"] for v in self.variants if v["metrics"]), {}))[:4]
        rows = [["variant", "bytes", *metrics]]
        rows += [[v["name"], v["size_bytes"], *map(v["metrics"].get, metrics)] for v in self.variants]
        table = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
        head = f"<b>{escape(self.verdict)}</b> {escape(self.run_id)}: {escape(self.report_path)}"
        return f"<p>{head}</p><table>{table}</table>"


def _cell(value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "-" if value is None else escape(str(value))


def run(
    config_path: str | Path,
    overrides: Sequence[str] = (),
    *,
    console: Console | None = None,
    cache: bool = True,
    run_id: str | None = None,
) -> RunResult:
    """Run the pipeline of a config file.

    Args:
        config_path: YAML file.
        overrides: "dotted.path=value" texts.
        console: Where progress goes; stderr by default.
        cache: Whether results of earlier runs may be taken where nothing changed.
        run_id: Id of an earlier run to go on with; None starts a new one.

    Returns:
        The result, also where a gate rejected the data or the model.

    Raises:
        ConfigError: If the config, a file or a column is wrong; nothing was started.
        EnvironmentProblem: If an output folder cannot be written, or the metadata's database does not answer;
            nothing was started.
    """
    require("pipeline")
    config = load_config(config_path, overrides)
    console = console or Console(stderr=True)
    check(config, lambda text: console.print(text, highlight=False, markup=False))
    check_reachable(config.metadata, Store.of(config).database)
    prepare_folder(config.output.runs, "output.runs")
    prepare_folder(config.output.push, "output.push")
    run_id = run_id or new_run_id()
    store = Store.of(config)
    folder = store.run_dir(run_id)
    console.print(f"[bold]headrace[/bold] {config.name}  run {run_id}", highlight=False)
    command = shlex.join(
        ["headrace", "run", str(config_path), *(part for o in overrides for part in ("--set", o))]
    )
    try:
        # From here on a run that is stopped concludes: it has a summary, and can be gone on with.
        with held(store.root, config.name, run_id), counted_interrupts() as interrupts:
            folder.mkdir(parents=True, exist_ok=True)
            request = {
                "config_path": str(Path(config_path).absolute()),
                "overrides": list(overrides),
                "run_id": run_id,
            }
            write_atomically(folder / _REQUEST, json.dumps(request, indent=1))
            outcomes, failure = run_nodes(config, run_id, TerminalReporter(console), interrupts, cache)
            return conclude(config, run_id, folder, outcomes, failure, command)
    except OSError as error:
        raise EnvironmentProblem(
            f"`output.runs` must stay writable. Received: {error.strerror} ({error.filename or folder})",
            "free some space and run again",
        ) from error


def conclude(
    config: RunConfig, run_id: str, folder: Path, outcomes: list[NodeOutcome],
    failure: HeadraceError | None, command: str,
) -> RunResult:  # fmt: skip
    """Write summary.json and report.html of an ended run into `folder`.

    Args:
        config: The run config.
        run_id: Id of the run.
        folder: The run's folder.
        outcomes: One outcome a node, in the graph's order.
        failure: What stopped the run, or None.
        command: What reproduces the run, for the report.
    """
    from .report import build

    summary = build_summary(config, run_id, outcomes, failure)
    summary_path, report_path = folder / "summary.json", folder / "report.html"
    write_atomically(summary_path, json.dumps(summary, indent=1, ensure_ascii=False))
    write_atomically(report_path, build(summary, build_evidence(config, outcomes, command)))
    return RunResult(
        run_id=run_id,
        verdict=summary["verdict"],
        exit_code=0 if failure is None else failure.exit_code,
        summary=summary,
        summary_path=shown_path(summary_path),
        report_path=shown_path(report_path),
        error=failure,
    )


def find_run(runs: str, run: str) -> Path:
    """Return the folder of an earlier run.

    Args:
        runs: Folder of runs.
        run: Id of one of them; or the path of any run's folder, or of what lies in it, as runs print them.

    Raises:
        ConfigError: If there is no such run.
    """
    named = Path(run)
    for folder in (Path(runs) / named, named, *named.parents[:-1]):
        if (folder / _REQUEST).is_file():
            return folder
    known = sorted(p.parent.name for p in Path(runs).glob(f"*/{_REQUEST}"))[-5:]
    raise ConfigError(
        f"a run must be one of those in {runs} ({', '.join(known) or 'none yet'}). Received: {run}"
    )


def read_request(folder: Path) -> dict[str, Any]:
    """Return what a run was started with: `config_path`, `overrides` and `run_id`."""
    request: dict[str, Any] = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    return request


def short_name(folder: Path) -> str:
    """Return what names a run on the command line from here: its id where `--runs` may be left out."""
    return shlex.quote(folder.name if folder.parent == Path("runs") else shown_path(folder))
