"""The one object behind every door: models, their life, and the computations that requests ask for."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from headrace.serving.manifest import CheckSums

from . import inference
from .admission import Admission
from .batching import Batcher, Limits
from .errors import Code, ServingError
from .integrity import fingerprint
from .manager import Lease, Manager, ManagerSettings, State, VersionStatus
from .model_spec import ModelSpec
from .rehearsal import Load, LoadLimits, Rehearsals
from .servable import Method, Servable, load
from .source import ModelEntry, entries_of
from .warmup import warm_up

__all__ = ["Answer", "Core", "Settings"]

Array = np.ndarray[Any, Any]

_MOST_BATCHERS = 64


@dataclass(frozen=True)
class Settings:
    """How models are loaded and run.

    Attributes:
        manager: How versions are found and loaded.
        merge_requests: Whether requests that queue share a run, where a signature's rows are independent.
        limits: What a run may take on.
        run_threads: Runs at the same time, over all models, >= 1; 0 takes one for each core.
        intra_op_threads: Threads within an operator, >= 1; 0 lets TensorFlow choose.
        inter_op_threads: Operators that run at once, >= 1; 0 lets TensorFlow choose.
        allow_ops: Operators that a model must not hold, and are allowed all the same.
        check_sums: What is asked of a version's manifest.json.
        check_method_name: Whether a signature answers only the API that its method name says.
        labels_for_unavailable: Whether a new label may name a version that is not loaded yet.
        warmup_iterations: How often each warm-up request is run, >= 1.
        max_in_flight: Computations that are taken on at once, over all models and doors, >= 1.
        rehearse_loads: What the load of a version may take in a process of its own, which comes before it is
            loaded here; None loads it here at once.
    """

    manager: ManagerSettings = field(default_factory=ManagerSettings)
    merge_requests: bool = True
    limits: Limits = field(default_factory=Limits)
    run_threads: int = 0
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    allow_ops: tuple[str, ...] = ()
    check_sums: CheckSums = "present"
    check_method_name: bool = False
    labels_for_unavailable: bool = False
    warmup_iterations: int = 1
    max_in_flight: int = 1024
    rehearse_loads: LoadLimits | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a computation gave.

    Attributes:
        spec: The model, with the version that answered and the signature's name.
        outputs: Alias -> array.
    """

    spec: ModelSpec
    outputs: dict[str, Array]


class Core:
    """Models and their computations. Belongs to one event loop; make it inside.

    Args:
        settings: How models are loaded and run.

    Attributes:
        settings: The same.
        admission: What doors enter with a computation.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        limits = self.settings.rehearse_loads
        self._rehearsals = Rehearsals(limits) if limits else None
        self._manager = Manager(self._load, self.settings.manager)
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._configured = False
        workers = self.settings.run_threads or self.settings.limits.in_flight
        self._threads = ThreadPoolExecutor(workers, "run")
        self._reloading = asyncio.Lock()
        self.admission = Admission(self.settings.max_in_flight)

    @property
    def manager(self) -> Manager:
        """The life of versions."""
        return self._manager

    async def start(self, entries: Sequence[ModelEntry]) -> None:
        """Serve these models; returns at once, `wait_loaded` waits for them.

        Raises:
            ServingError: FAILED_PRECONDITION, if a label names a version that is not available.
        """
        self._labels = self._checked_labels(entries)
        self._configured = bool(entries)
        await self._manager.start(entries)

    async def wait_loaded(self, names: Sequence[str] | None = None) -> None:
        """Wait until the models are available or have failed for good."""
        await self._manager.wait_settled(list(self._manager.entries) if names is None else names)

    async def close(self) -> None:
        """Stop loading and close every model."""
        if self._rehearsals is not None:
            self._rehearsals.close()
        await self._manager.close()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    def ready(self) -> bool:
        """Whether every configured model has a version that answers."""
        return self._manager.ready()

    def resolve(self, spec: ModelSpec) -> Lease:
        """Hold the version that `spec` names while it is in use.

        Raises:
            ServingError: If there is no such model, version or label.
        """
        if not spec.name:
            raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        return self._manager.lease(spec.name, self._version(spec))

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Return the states of a model's versions, newest first; of all, unless a number is given.

        Raises:
            ServingError: NOT_FOUND, if there is no such model or version.
        """
        found = self._manager.statuses(name)
        if version is not None:
            found = [status for status in found if status.version == version]
            if not found:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return found

    def metadata(self, spec: ModelSpec) -> tuple[int, Any]:
        """Return the version that `spec` names and its SignatureDefMap."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        with self.resolve(spec) as lease:
            found = get_model_metadata_pb2.SignatureDefMap()
            for name, proto in lease.servable.signature_defs.items():
                found.signature_def[name].CopyFrom(proto)
            return lease.version, found

    async def reload(self, config: Any) -> None:
        """Serve the models of a ModelServerConfig, and no others; returns when new ones are available.

        Raises:
            ServingError: If the configuration is not valid, or a new model does not become available.
        """
        async with self._reloading:
            kind = config.WhichOneof("config")
            if kind is None:
                return
            if kind != "model_config_list":
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    "Cannot transition to requested config. It is only legal to transition from one "
                    "ModelConfigList to another.",
                )
            entries = entries_of(config)
            labels = self._checked_labels(entries)
            new = [entry.name for entry in entries if entry.name not in self._manager.entries]
            self._labels = labels
            await self._manager.configure(entries)
            await self._manager.wait_settled(new)
            absent = [name for name in new if not self._manager.serving.get(name)]
            if absent:
                told = "".join(f"{{{reason}}}, " for name in absent for reason in self._manager.reasons(name))
                raise ServingError(
                    Code.UNKNOWN, f"{len(absent)} model(s) did not become available: {{{told}}}"
                )

    async def predict(
        self,
        spec: ModelSpec,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] = (),
        *,
        deadline: float | None = None,
    ) -> Answer:
        """Run a signature on tensors.

        Args:
            spec: Which computation.
            inputs: Alias -> array. Values are fetched one by one, after the names were checked.
            outputs: Aliases of the results wanted; none means all.
            deadline: Moment of `time.monotonic` after which nobody waits for the answer.

        Raises:
            ServingError: With TensorFlow Serving's code and text.
        """
        with self.resolve(spec) as lease:
            method = inference.predict_method(lease.servable, spec, self.settings.check_method_name)
            arrays = inference.checked_inputs(method, inputs)
            wanted = inference.checked_outputs(method, outputs)
            found = await self._run(lease.servable, method, arrays, wanted, deadline)
            return Answer(_answered(spec, lease), dict(zip(wanted, found, strict=True)))

    async def classify(
        self, spec: ModelSpec, examples: Sequence[bytes], *, deadline: float | None = None
    ) -> Answer:
        """Run a classification signature on serialized examples: "classes" and/or "scores", [n, k]."""
        with self.resolve(spec) as lease:
            task = inference.classify_task(lease.servable, spec, self.settings.check_method_name)
            return (await self._tasks(lease, [task], examples, deadline))[0]

    async def regress(
        self, spec: ModelSpec, examples: Sequence[bytes], *, deadline: float | None = None
    ) -> Answer:
        """Run a regression signature on serialized examples: "outputs", [n]."""
        with self.resolve(spec) as lease:
            task = inference.regress_task(lease.servable, spec, self.settings.check_method_name)
            return (await self._tasks(lease, [task], examples, deadline))[0]

    async def multi_inference(
        self,
        tasks: Sequence[tuple[ModelSpec, str]],
        examples: Sequence[bytes],
        *,
        deadline: float | None = None,
    ) -> list[Answer]:
        """Run several signatures of one model on the same serialized examples.

        Args:
            tasks: For each result the signature and the method name, classify or regress.
            examples: Serialized examples.
            deadline: Moment of `time.monotonic` after which nobody waits for the answer.
        """
        with self.resolve(tasks[0][0] if tasks else ModelSpec("")) as lease:
            wanted = inference.multi_tasks(lease.servable, tasks, self.settings.check_method_name)
            return await self._tasks(lease, wanted, examples, deadline)

    async def _tasks(
        self,
        lease: Lease,
        tasks: Sequence[inference.Task],
        examples: Sequence[bytes],
        deadline: float | None,
    ) -> list[Answer]:
        array = inference.example_array(examples)
        answers = []
        for task in tasks:
            found = await self._run(lease.servable, task.method, [array], task.outputs, deadline)
            outputs = dict(zip(task.outputs, found, strict=True))
            task.check(len(examples), outputs)
            answers.append(Answer(_answered(task.spec, lease), outputs))
        return answers

    async def _run(
        self,
        servable: Servable,
        method: Method,
        inputs: Sequence[Array],
        outputs: tuple[str, ...],
        deadline: float | None,
    ) -> list[Array]:
        batcher = servable.batchers.get((method.name, outputs)) or self._batcher(servable, method, outputs)
        if deadline is None:
            return await batcher.run(inputs)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await batcher.run(inputs, deadline)
        except TimeoutError as error:
            raise ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification") from error

    def _batcher(self, servable: Servable, method: Method, outputs: tuple[str, ...]) -> Batcher:
        """Make the batcher of a signature and set of outputs; rare sets share none once there are many."""
        settings = self.settings
        made = Batcher(
            servable, method, outputs, self._threads, settings.limits, merging=settings.merge_requests
        )
        if len(servable.batchers) < _MOST_BATCHERS:
            servable.batchers[method.name, outputs] = made
        return made

    def _version(self, spec: ModelSpec) -> int | None:
        if spec.label is None:
            return spec.version
        version = self._labels.get(spec.name, {}).get(spec.label)
        if version is None:
            raise ServingError(Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.label}")
        return version

    def _checked_labels(self, entries: Sequence[ModelEntry]) -> dict[str, dict[str, int]]:
        """Return the labels of a configuration, if all may be assigned now."""
        found: dict[str, dict[str, int]] = {}
        for entry in entries:
            states = {status.version: status.state for status in self._manager.statuses(entry.name)}
            for label, version in entry.labels:
                held = self._labels.get(entry.name, {}).get(label, version)
                free = self.settings.labels_for_unavailable and held == version
                if not free and states.get(version) is not State.AVAILABLE:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {entry.name}, which is not "
                        "currently available for inference",
                    )
                found.setdefault(entry.name, {})[label] = version
        return found

    def _load(self, name: str, version: int, path: str) -> Servable:
        """Load a version and warm it up, in a thread."""
        settings = self.settings
        before = fingerprint(path)
        if self._rehearsals is not None:
            asked = Load(
                name, version, path, settings.allow_ops, settings.check_sums, settings.warmup_iterations
            )
            self._rehearsals.try_out(asked)
        servable = load(
            name,
            version,
            path,
            intra_op_threads=settings.intra_op_threads,
            inter_op_threads=settings.inter_op_threads,
            allow_ops=settings.allow_ops,
            check_sums=settings.check_sums if self._rehearsals is None else "off",
            before=before,
        )
        try:
            warm_up(servable, iterations=settings.warmup_iterations)
        except BaseException:
            servable.close()
            raise
        return servable


def _answered(spec: ModelSpec, lease: Lease) -> ModelSpec:
    return replace(spec, version=lease.version, label=None, signature=spec.signature_name)
