"""From the node graph to the YAML of Kubeflow Pipelines: schema 2.1.0, with a Kubernetes platform spec."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kfp import compiler, dsl, kubernetes

from headrace.components.team import HOST_VARIABLE, NUMBER_VARIABLE, SIZE_VARIABLE
from headrace.data.errors import ConfigError

from .bundle import Bundle, Carried, config_arguments, make_bundle, store_config
from .lint import find_secrets, lint
from .plan import Parameter, Plan, StepPlan, make_plan
from .presence import check_columns
from .spec import Wishes

__all__ = ["Compiled", "compile_pipeline"]

_KINDS = {
    "HTML": dsl.HTML,
    "Markdown": dsl.Markdown,
    "Metrics": dsl.Metrics,
    "ClassificationMetrics": dsl.ClassificationMetrics,
}


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline.

    Attributes:
        path: The YAML file.
        plan: What it asks the cluster for.
        bundle: The config that it carries.
        checked: Whether the data are on this machine, and their columns fit.
        beside: File that must be put on the volume before a run: a config too large for arguments; or None.
    """

    path: Path
    plan: Plan
    bundle: Bundle
    checked: bool
    beside: Path | None = None


def compile_pipeline(
    config_path: str | Path,
    output: str | Path,
    overrides: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Compiled:
    """Compile a config file and check the result.

    Args:
        config_path: YAML file of the run.
        output: Where the pipeline is written.
        overrides: "dotted.path=value" texts.
        tell: Told what takes a while.

    Raises:
        ConfigError: If the config or own code is wrong or does not suit data that are on this machine, or
            the pipeline breaks a rule of the backend.
        EnvironmentProblem: If a large config cannot be stored at `kubeflow.config_uri`.
    """
    bundle = make_bundle(config_path, overrides)
    plan = make_plan(bundle.config)
    checked = check_columns(config_path, overrides, tell)
    if secrets := find_secrets(bundle.config):
        raise ConfigError(f"a secret must not stand in the config. Received: one in {', '.join(secrets)}")
    carried = config_arguments(bundle, len(plan.steps) + 1)
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = _put(carried, target)
    if beside is not None:
        bundle = replace(bundle, links={**bundle.links, carried.place: beside.resolve()})
    pipeline = dsl.pipeline(name=plan.name, description=f"headrace: {bundle.config.name}")(
        _pipeline(plan, carried.arguments)
    )
    compiler.Compiler().compile(pipeline, str(target))
    section = bundle.config.kubeflow
    wishes = Wishes(section.service_account, section.experiment, section.run_name)
    target.write_text(wishes.written_into(target.read_text(encoding="utf-8")), encoding="utf-8")
    lint(target)
    return Compiled(target, plan, bundle, checked, beside)


def _put(carried: Carried, target: Path) -> Path | None:
    """Store a config that is too large for arguments; return its file, if it is one beside the pipeline."""
    if not carried.place:
        return None
    if "://" in carried.place:
        store_config(carried.place, carried.text)
        return None
    beside = target.with_name(f"{target.stem}.config.gz")
    beside.write_text(carried.text, encoding="utf-8")
    return beside


def _pipeline(plan: Plan, config: list[str]) -> Any:
    """Return the function that kfp traces; its signature says what a run may be given."""

    def build(*values: Any) -> None:
        given = dict(zip((parameter.name for parameter in plan.parameters), values, strict=True))
        closing = _task(plan.report, plan, config, given)
        with dsl.ExitHandler(closing, name="nodes"):
            made: dict[str, Any] = {}
            for step in plan.steps:
                made[step.id] = _task(step, plan, config, given)
                if step.after:
                    made[step.id].after(*(made[name] for name in step.after))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    _sign(
        build,
        [inspect.Parameter(p.name, kind, annotation=p.type, default=p.default) for p in plan.parameters],
    )
    return build


def _task(step: StepPlan, plan: Plan, config: list[str], given: dict[str, Any]) -> Any:
    """Make a component of its own for a step, and place it."""
    component = dsl.container_component(_component(step, plan, config))
    task = component(run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **given)
    # ML Metadata knows what can be taken from earlier runs; a step that Kubeflow skipped would not ask it.
    task.set_caching_options(False)
    task.set_display_name(step.id)
    task.set_cpu_request(step.cpu).set_memory_request(step.memory).set_memory_limit(step.memory_limit)
    if step.cpu_limit is not None:
        task.set_cpu_limit(step.cpu_limit)
    if step.gpu is not None:
        task.set_accelerator_type(step.gpu.type).set_accelerator_limit(step.gpu.count)
    if step.retries:
        task.set_retry(step.retries, f"{step.backoff_s}s", step.backoff_factor, f"{step.backoff_max_s}s")
    for name, value in step.env.items():
        task.set_env_variable(name, value)
    if step.team > 1:
        task.set_env_variable(SIZE_VARIABLE, str(step.team)).set_env_variable(
            NUMBER_VARIABLE, str(step.number)
        )
        # Containers of a pipeline have no name that resolves: each tells the others its address.
        kubernetes.use_field_path_as_env(task, HOST_VARIABLE, "status.podIP")
    _place(task, step, plan)
    return task


def _place(task: Any, step: StepPlan, plan: Plan) -> None:
    """Add what only the Kubernetes platform knows."""
    user, group = plan.run_as
    kubernetes.set_security_context(task, run_as_user=user, run_as_group=group, run_as_non_root=True)
    kubernetes.set_image_pull_policy(task, plan.pull_policy)
    if plan.volume is not None:
        kubernetes.mount_pvc(
            task, pvc_name=plan.volume.claim, mount_path=plan.volume.mount, sub_path=plan.volume.sub_path
        )
    for name, place in step.secrets.items():
        kubernetes.use_secret_as_env(task, place.secret, {place.key: name})
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for item in step.tolerations:
        kubernetes.add_toleration(task, item.key, item.operator, item.value, item.effect, item.seconds)
    if step.timeout_s is not None:
        kubernetes.set_timeout(task, step.timeout_s)


def _component(step: StepPlan, plan: Plan, config: list[str]) -> Any:
    """Return the function of one component; kfp calls it with a placeholder for each of its parameters."""
    names = ["run_id", *(parameter.name for parameter in plan.parameters)]

    def build(*placeholders: Any) -> dsl.ContainerSpec:
        given = dict(zip(names, placeholders, strict=False))
        return dsl.ContainerSpec(
            image=step.image,
            command=["headrace", "node", step.node],
            args=[
                *config,
                f"--run-id={given['run_id']}",
                f"--root={plan.root}",
                *(f"{parameter.option}{given[parameter.name]}" for parameter in plan.parameters),
                # What metrics and matrices travel in; a placeholder within other text is not replaced.
                *(["--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER] if step.shows else []),
            ],
        )

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    inputs = [Parameter("run_id", "", str, ""), *plan.parameters]
    build.__name__, build.__doc__ = step.id, step.title
    _sign(
        build,
        [
            *(inspect.Parameter(item.name, kind, annotation=item.type) for item in inputs),
            *(
                inspect.Parameter(name, kind, annotation=dsl.Output[_KINDS[shown]])
                for name, shown in step.shows.items()
            ),
        ],
        dsl.ContainerSpec,
    )
    return build


def _sign(function: Any, parameters: list[inspect.Parameter], returns: Any = inspect.Signature.empty) -> None:
    """Give a closure the signature that kfp reads."""
    function.__signature__ = inspect.Signature(parameters, return_annotation=returns)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
