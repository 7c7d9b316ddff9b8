"""The `headrace kubeflow` commands."""

import json
import shlex
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from headrace.pipeline.cli_options import LOCAL_PATH, overrides

__all__ = ["group"]


@click.group("kubeflow")
def group() -> None:
    """Run on Kubeflow Pipelines: compile, check, simulate, submit, schedule, watch."""


def _tell(text: str) -> None:
    click.echo(text, err=True)


@group.command("compile")
@click.argument("config", type=LOCAL_PATH)
@click.option(
    "-o", "--output", default="pipeline.yaml", type=LOCAL_PATH, show_default=True, help="File to write."
)
@overrides
def _compile(config: str, output: str, overrides: tuple[str, ...]) -> None:
    """Write the pipeline that Kubeflow runs."""
    from headrace.pipeline.outcome import shown_path

    from .compile import compile_pipeline

    made = compile_pipeline(config, output, overrides, _tell)
    size = made.path.stat().st_size
    click.echo(f"wrote {made.path}: {len(made.plan.steps)} steps and the report, {size / 1e3:.0f} kB")
    for place, source in made.bundle.needed.items():
        click.echo(f"steps read {made.plan.root}/{place}; here it is {shown_path(source)}", err=True)
    if not made.checked:
        click.echo("the data are not here: their columns were not checked", err=True)
    sets = [part for text in overrides for part in ("--set", text)]
    click.echo(f"next: here: {shlex.join(['headrace', 'kubeflow', 'simulate', config, *sets])}")
    click.echo(f"next: on a cluster: {shlex.join(['headrace', 'kubeflow', 'submit', output])} --host URL")


@group.command("lint")
@click.argument("pipeline", type=LOCAL_PATH)
def _lint(pipeline: str) -> None:
    """Check a compiled pipeline against the rules of the backend."""
    from .lint import lint

    lint(pipeline)
    click.echo(f"{pipeline} keeps the rules")


@group.command("simulate")
@click.argument("source", metavar="PIPELINE.yaml|CONFIG", type=LOCAL_PATH)
@click.option(
    "--volume",
    type=LOCAL_PATH,
    default="kubeflow-volume",
    show_default=True,
    help="Folder that stands for the volume.",
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the run.")
@click.option("--secret", "secrets", multiple=True, metavar="SECRET/KEY=FILE", help="File with a secret.")
@click.option("--parallel", default=1, show_default=True, type=click.IntRange(1, 64), help="Steps at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print only a JSON object on stdout.")
@overrides
def _simulate(source: str, **options: Any) -> None:
    """Run the compiled pipeline here, one process a step, as Kubeflow would."""
    from .rehearsal import rehearse
    from .terminal import TerminalWatcher, parsed_secrets, print_end

    done = rehearse(
        source,
        options["volume"],
        options["overrides"],
        options["params"],
        parallel=options["parallel"],
        secrets=parsed_secrets(options["secrets"]),
        watcher=TerminalWatcher(),
    )
    raise click.exceptions.Exit(print_end(done, options["as_json"]))


def _on_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a server, and the server."""

    @click.option("--host", default=None, help="URL of the server; default: $KF_PIPELINES_ENDPOINT.")
    @click.option("--namespace", default=None, help="Of your profile; default: $HEADRACE_KFP_NAMESPACE.")
    @click.option(
        "--token-file",
        type=LOCAL_PATH,
        default=None,
        help="File with the token; default: $HEADRACE_KFP_TOKEN.",
    )
    @click.option(
        "--ca-cert", type=LOCAL_PATH, default=None, help="File with the server's certificate authority."
    )
    @wraps(command)
    def wrapped(
        host: str | None, namespace: str | None, token_file: str | None, ca_cert: str | None, **options: Any
    ) -> Any:
        from .server import Server, find_access

        access = find_access(host, namespace, token_file, ca_cert)
        return command(lambda: Server(access), **options)

    return wrapped


def _access() -> list[str]:
    """Return the options of the server that were given to the running command."""
    given = click.get_current_context().params
    names = ("host", "namespace", "token_file", "ca_cert")
    return [part for name in names if given[name] for part in (f"--{name.replace('_', '-')}", given[name])]


def _sent(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of what is sent."""
    for option in (
        click.option("--service-account", default=None, help="Of the pods; default: the config's."),
        click.option("--experiment", default=None, help="Where runs are listed; default: the config's."),
        click.option("--name", default=None, help="Of the run; default: the config's, or the pipeline's."),
        click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A run parameter."),
        overrides,
        click.argument("source", metavar="PIPELINE.yaml|CONFIG", type=LOCAL_PATH),
    ):
        command = option(command)
    return command


@group.command("submit")
@_sent
@_on_server
def _submit(server: Callable[[], Any], source: str, **options: Any) -> None:
    """Start a run and print its id."""
    from .submission import prepared

    with prepared(source, options["overrides"], options["params"], _tell) as sent:
        run_id = server().submit(
            sent.pipeline,
            options["name"] or sent.wishes.run_name or sent.name,
            sent.parameters,
            experiment=options["experiment"] or sent.wishes.experiment,
            service_account=options["service_account"] or sent.wishes.service_account,
        )
    click.echo(run_id)
    click.echo(f"to watch it: {shlex.join(['headrace', 'kubeflow', 'status', run_id, *_access()])}", err=True)


@group.command("schedule")
@click.option("--cron", required=True, help="Five fields, or six with seconds first; times are UTC.")
@click.option("--max-concurrency", default=1, show_default=True, type=click.IntRange(1, 10))
@click.option("--catch-up/--no-catch-up", default=False, show_default=True, help="Make up for missed runs.")
@_sent
@_on_server
def _schedule(server: Callable[[], Any], source: str, **options: Any) -> None:
    """Run again and again, and print the schedule's id."""
    from .submission import prepared

    with prepared(source, options["overrides"], options["params"], _tell) as sent:
        schedule_id = server().schedule(
            sent.pipeline,
            options["name"] or sent.wishes.run_name or sent.name,
            sent.parameters,
            experiment=options["experiment"] or sent.wishes.experiment,
            cron=options["cron"],
            max_concurrency=options["max_concurrency"],
            catch_up=options["catch_up"],
            service_account=options["service_account"] or sent.wishes.service_account,
        )
    click.echo(schedule_id)


@group.command("status")
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@_on_server
def _status(server: Callable[[], Any], run_id: str, as_json: bool) -> None:
    """Tell the state of a run and its steps; exit with 1 if it failed."""
    from dataclasses import asdict

    state = server().status(run_id)
    if as_json:
        click.echo(json.dumps(asdict(state)))
    else:
        click.echo(f"{state.run_id}  {state.state}  {state.error}".rstrip())
        for step in state.steps:
            click.echo(f"  {step.name:<16} {step.state:<10} {step.error}".rstrip())
    if state.state in ("FAILED", "CANCELED"):
        raise click.exceptions.Exit(1)


@group.command("logs")
@click.argument("run_id", metavar="RUN")
@click.argument("step")
@_on_server
def _logs(server: Callable[[], Any], run_id: str, step: str) -> None:
    """Print the log of a step."""
    click.echo(server().logs(run_id, step), nl=False)


@group.command("cancel")
@click.argument("run_id", metavar="RUN")
@_on_server
def _cancel(server: Callable[[], Any], run_id: str) -> None:
    """Stop a run."""
    server().cancel(run_id)
    click.echo(f"{run_id} is being stopped")
