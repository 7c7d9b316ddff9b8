"""The `headrace kubeflow` commands."""

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
