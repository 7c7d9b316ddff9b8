"""The `headrace kubeflow` commands."""

from typing import Any

import click

__all__ = ["group"]

_overrides = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=VALUE", help="Override a config value; may be repeated."
)


@click.group("kubeflow")
def group() -> None:
    """Run on Kubeflow Pipelines: compile, check, simulate, submit, schedule, watch."""


@group.command("compile")
@click.argument("config", type=click.Path())
@click.option("-o", "--output", default="pipeline.yaml", show_default=True, help="File to write.")
@_overrides
def _compile(config: str, output: str, overrides: tuple[str, ...]) -> None:
    """Write the pipeline that Kubeflow runs."""
    from .compile import compile_pipeline

    made = compile_pipeline(config, output, overrides)
    size = made.path.stat().st_size
    click.echo(f"wrote {made.path}: {len(made.plan.steps)} steps and the report, {size / 1e3:.0f} kB")
    for place, source in made.bundle.links.items():
        click.echo(f"steps look for {source.name} in {made.plan.root}/{place}", err=True)


@group.command("lint")
@click.argument("pipeline", type=click.Path())
def _lint(pipeline: str) -> None:
    """Check a compiled pipeline against the rules of the backend."""
    from .lint import lint

    lint(pipeline)
    click.echo(f"{pipeline} keeps the rules")


@group.command("simulate")
@click.argument("source", metavar="PIPELINE.yaml|CONFIG", type=click.Path())
@click.option(
    "--volume", default="kubeflow-volume", show_default=True, help="Folder that stands for the volume."
)
@click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter of the run.")
@click.option("--secret", "secrets", multiple=True, metavar="SECRET/KEY=FILE", help="File with a secret.")
@click.option("--parallel", default=1, show_default=True, type=click.IntRange(1, 64), help="Steps at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print only a JSON object on stdout.")
@_overrides
def _simulate(source: str, **options: Any) -> None:
    """Run the compiled pipeline here, one process a step, as Kubeflow would."""
    from .rehearsal import parsed_parameters, rehearse
    from .terminal import TerminalWatcher, parsed_secrets, print_end

    done = rehearse(
        source,
        options["volume"],
        options["overrides"],
        parsed_parameters(source, options["params"]),
        parallel=options["parallel"],
        secrets=parsed_secrets(options["secrets"]),
        watcher=TerminalWatcher(),
    )
    raise click.exceptions.Exit(print_end(done, options["as_json"]))
