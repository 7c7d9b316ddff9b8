"""The command line: parse, call, print. Imports what is heavy only inside the command that needs it."""

import importlib
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from headrace.data.errors import ConfigError, HeadraceError
from headrace.data.extras import missing_extra

from .cli_options import LOCAL_PATH, overrides, print_error, with_debug
from .cli_serving import SERVING_COMMANDS

__all__ = ["main"]


class _Commands(click.Group):
    """Lists commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="headrace")
@click.pass_context
def _cli(context: click.Context, debug: bool) -> None:
    """From data to gated, quantized models for TF Serving and TF Lite, by one config file."""
    context.obj = {"debug": debug}


def main() -> None:
    """Run the command line and exit with the documented code."""
    debug = "--debug" in sys.argv
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        # The end of the terminal ends a command as Ctrl-C does.
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        # Without its standalone mode click returns the code of an Exit instead of leaving with it.
        code = _cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except HeadraceError as error:
        if debug:
            raise
        print_error(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if missing := missing_extra(error):
            print_error(missing)
            sys.exit(missing.exit_code)
        click.echo(f"error: {type(error).__name__}: {error}", err=True)
        click.echo("this is a fault of headrace or of the machine; --debug shows where", err=True)
        sys.exit(1)


@_cli.command("init")
@click.argument("data", type=LOCAL_PATH)
@click.option("--label", required=True, help="Column to predict.")
@click.option(
    "-o",
    "--output",
    type=LOCAL_PATH,
    default=None,
    help="Config file to write; default: in the working directory, named after the data.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@with_debug
def _init(data: str, label: str, output: str | None, force: bool) -> None:
    """Write a config from the data: types, cardinalities, missing values, task."""
    from headrace.data.inference import infer

    stem = os.path.basename(data.rstrip("/")).split(".")[0]
    target = Path(output or f"{stem}.yaml")
    if target.exists() and not force:
        raise ConfigError(
            f"`--output` must not exist yet. Received: {target}", "give another name, or --force"
        )
    found = infer(data, label, config_folder=str(target.absolute().parent))
    target.write_text(found.text, encoding="utf-8")
    click.echo(f"wrote {target}")
    for note in found.notes:
        click.echo(f"note: {note}")
    if found.left_out:
        click.echo(f"left out: {', '.join(f'{column} ({why})' for column, why in found.left_out)}")
    first = f"{found.before_run}, then: " if found.before_run else ""
    click.echo(f"next: {first}headrace run {shlex.quote(str(target))}")


@_cli.command("validate")
@click.argument("config", type=LOCAL_PATH)
@overrides
@with_debug
def _validate(config: str, overrides: tuple[str, ...]) -> None:
    """Check a config, its files, its columns and its first rows, in seconds."""
    from .validate import validate

    for line in validate(config, overrides, lambda text: click.echo(text, err=True)):
        click.echo(line)


@_cli.command("run")
@click.argument("config", type=LOCAL_PATH)
@overrides
@click.option("--force", is_flag=True, help="Take nothing from earlier runs.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only {run_id, verdict, summary_path, report_path} on stdout.",
)
@with_debug
def _run(config: str, overrides: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Run the pipeline: from data to pushed models."""
    from .runs import run

    _print_result(run(config, overrides, cache=not force), as_json)


@_cli.command("resume")
@click.argument("run_id", metavar="RUN")
@click.option("--runs", type=LOCAL_PATH, default="runs", show_default=True, help="Folder of runs.")
@click.option("--json", "as_json", is_flag=True, help="Print only a JSON object on stdout.")
@with_debug
def _resume(run_id: str, runs: str, as_json: bool) -> None:
    """Go on with a run that was stopped or failed."""
    from .runs import find_run, read_request, run

    folder = find_run(runs, run_id)
    request = read_request(folder)
    _print_result(run(request["config_path"], request["overrides"], run_id=folder.name), as_json)


def _print_result(result: Any, as_json: bool) -> None:
    if as_json:
        keys = ("run_id", "verdict", "summary_path", "report_path")
        click.echo(json.dumps({key: getattr(result, key) for key in keys}))
    if result.error is not None:
        print_error(result.error)
    if not as_json:
        from .outcome import print_outcome

        print_outcome(result)
    if result.exit_code:
        raise click.exceptions.Exit(result.exit_code)


@_cli.command("node", hidden=True)
@click.argument("node_id", metavar="ID")
@click.option("--config", required=True, help="Config file; or a packed config, or the URI of one.")
@click.option("--config-sha256", default=None, help="SHA-256 that a config at a URI must have.")
@click.option("--run-id", required=True, help="Id of the run; the same for all its nodes.")
@click.option(
    "--root", type=LOCAL_PATH, default=None, help="Folder where relative paths of the output start."
)
@click.option("--metadata", default=None, help="URL of the metadata's database; instead of `metadata.url`.")
@click.option("--span", default="", help="Span of the data; default: the newest.")
@click.option(
    "--force", type=bool, is_flag=False, flag_value=True, default=False, help="Take nothing cached."
)
@click.option("--set-text", "texts", multiple=True, metavar="A.B=TEXT", help="As --set, but never YAML.")
@click.option("--executor-input", default=None, help="What Kubeflow gives a step, to show results in its UI.")
@overrides
@with_debug
def _node(**options: Any) -> None:
    """Run one node of a run through TFX's launcher, as a cluster step does; `report` concludes the run."""
    from .step_command import run_command

    # Skip the interpreter's teardown: threads of TensorFlow and Beam can hold it up for seconds.
    code = run_command(**options, tell=lambda text: click.echo(text, err=True), tell_error=print_error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@_cli.command("report")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--runs", type=LOCAL_PATH, default="runs", show_default=True, help="Folder of runs.")
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
@with_debug
def _report(run_id: str | None, runs: str, open_it: bool) -> None:
    """Tell where a run's report is (the latest run by default)."""
    from .runs import find_run, short_name

    folder = find_run(runs, run_id or _latest(runs))
    path = folder / "report.html"
    if not path.exists():
        raise ConfigError(
            f"a run must have ended to have a report. Received: {folder.name}",
            f"headrace resume {short_name(folder)}",
        )
    click.echo(path)
    if open_it:
        click.launch(path.absolute().as_uri())


@_cli.command("why")
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--runs", type=LOCAL_PATH, default="runs", show_default=True, help="Folder of runs.")
@with_debug
def _why(run_id: str | None, runs: str) -> None:
    """Say why a run ended as it did: every gate with its state and reason (the latest run by default)."""
    from .outcome import print_gates
    from .runs import find_run, short_name

    folder = find_run(runs, run_id or _latest(runs))
    path = folder / "summary.json"
    if not path.exists():
        raise ConfigError(
            f"a run must have ended to tell why. Received: {folder.name}",
            f"headrace resume {short_name(folder)}",
        )
    print_gates(json.loads(path.read_text(encoding="utf-8")))


def _latest(runs: str) -> str:
    """Return the latest run that ended, and say so where newer ones did not."""
    from .latest import latest_run

    found = latest_run(runs)
    if found.note:
        click.echo(f"note: {found.note}", err=True)
    return found.run_id


for _command in SERVING_COMMANDS:
    _cli.add_command(_command)


@_cli.group("data")
def _data() -> None:
    """Sample data."""


@_data.command("fetch")
@click.argument("name")
@click.argument("folder", type=LOCAL_PATH, metavar="DIR")
@with_debug
def _fetch(name: str, folder: str) -> None:
    """Put a real data set into a folder: flights, taxi, diamonds, digits, tweets or vowels."""
    from headrace.data.samples import fetch

    click.echo(fetch(name, folder))


@_cli.command("schema")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the reference for people instead.")
@with_debug
def _schema(as_markdown: bool) -> None:
    """Print the JSON Schema of the config file, for editors."""
    from .reference import json_schema, markdown

    click.echo(markdown() if as_markdown else json.dumps(json_schema(), indent=1))


@_cli.command("doctor")
@with_debug
def _doctor() -> None:
    """Look at this machine: Python, packages, glibc, GPU, memory, disk, ports."""
    from .doctor import examine

    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
    findings = examine()
    for finding in findings:
        mark, color = marks[finding.state]
        click.echo(f"{click.style(mark, fg=color)} {finding.name:<28} {finding.text}")
    if any(finding.state == "fail" for finding in findings):
        raise click.exceptions.Exit(1)


class _Kubeflow(click.Group):
    """The commands of a room above this one, reached by name: rooms import downwards only."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._room().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._room().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        return self._room().invoke(ctx)

    @staticmethod
    def _room() -> click.Group:
        found: click.Group = importlib.import_module("headrace.kubeflow.cli").group
        return found


@_cli.command("kubeflow", cls=_Kubeflow)
def _kubeflow() -> None:
    """Run on Kubeflow Pipelines: compile, lint, simulate, submit, schedule, watch."""
