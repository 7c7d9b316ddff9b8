"""Versions that end, fill or hold up the process that tries them: it alone, and no other load."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import tensorflow as tf

from headrace.data.errors import ConfigError
from headrace.serving.server import rehearsal
from headrace.serving.server.core import Core, Settings
from headrace.serving.server.errors import Code, ServingError
from headrace.serving.server.flags import parse_flags
from headrace.serving.server.manager import ManagerSettings, State
from headrace.serving.server.rehearsal import Load, LoadLimits, Rehearsals
from headrace.serving.server.serve import run_settings
from headrace.serving.server.source import ModelEntry
from tests.serving import saved_models
from tests.serving.test_lifecycle import run, states, until, value

X = tf.TensorSpec([None], tf.float32, name="x")
QUICK = ManagerSettings(poll_wait_s=0.02, max_load_retries=0)
MIB = 1 << 20


def save(path: Path, answer: Callable[[Any], Any]) -> str:
    module = tf.Module()
    module.answer = tf.function(lambda x: {"a": answer(x)}, input_signature=[X], autograph=False)
    tf.saved_model.save(module, str(path), signatures=module.answer)
    return str(path)


def aborting(exit_without_error: bool) -> Callable[[Any], Any]:
    def answer(x: Any) -> Any:
        with tf.control_dependencies([tf.raw_ops.Abort(exit_without_error=exit_without_error)]):
            return tf.identity(x)

    return answer


def filling(x: Any) -> Any:
    """Take 16 GB, as soon as a row is asked."""
    return x + tf.reduce_max(tf.fill([tf.size(x, tf.int64) * 4_000_000_000], tf.reduce_sum(x)))


def endless(x: Any) -> Any:
    return tf.while_loop(lambda y: tf.reduce_sum(y) < 1.0, lambda y: [y * 0.0], [x])[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {
        "good": saved_models.constant(root / "good", 1.0),
        "aborts": save(root / "aborts", aborting(False)),
        "leaves": save(root / "leaves", aborting(True)),
        "fills": save(root / "fills", filling),
        "endless": save(root / "endless", endless),
        "reads": save(root / "reads", lambda x: [tf.strings.length(tf.io.read_file("absent")), x][1]),
    }


def tried(path: str, limits: LoadLimits | None = None, **asked: Any) -> None:
    Rehearsals(limits or LoadLimits(60.0)).try_out(Load("m", 1, path, **asked))


def helpers() -> list[psutil.Process]:
    """The helper of this process."""
    return [child for child in psutil.Process().children() if "rehearsal_helper" in " ".join(child.cmdline())]


def tries() -> list[psutil.Process]:
    """The processes that versions are loaded in now, not those that watch them."""
    watchers = [child for helper in helpers() for child in helper.children()]
    return [child for watcher in watchers for child in watcher.children()]


def test_a_good_version_passes_and_leaves_nothing_behind(models):
    tried(models["good"])
    start = time.monotonic()
    tried(models["good"])
    assert time.monotonic() - start < 5.0  # TensorFlow is not imported again
    assert tries() == []


@pytest.mark.parametrize(
    ("model", "code", "text"),
    [
        ("aborts", Code.INTERNAL, "not end the process that loads it.*aborts, it was killed by SIGABRT"),
        ("leaves", Code.INTERNAL, "not end the process that loads it.*leaves, it ended with exit code 0"),
        ("fills", Code.RESOURCE_EXHAUSTED, r"within 1,024 MiB of memory \(--max_load_mib\).*fills, which"),
        ("endless", Code.DEADLINE_EXCEEDED, r"within 3 s \(--max_load_seconds\).*endless, which"),
    ],
)
def test_a_version_that_harms_its_process_harms_no_other(models, model, code, text):
    before = psutil.Process().memory_info().rss
    with pytest.raises(ServingError, match=text) as caught:
        tried(models[model], LoadLimits(3.0, 1024 * MIB), allow_ops=("Abort",))
    assert caught.value.code is code
    assert tries() == []
    assert psutil.Process().memory_info().rss - before < 500e6
    tried(models["good"])


def test_errors_of_the_load_and_of_the_warm_up_come_through(models, tmp_path):
    with pytest.raises(ServingError, match="Could not find SavedModel") as caught:
        tried(str(tmp_path))
    assert caught.value.code is Code.NOT_FOUND
    with pytest.raises(ServingError, match=r"Received: ReadFile \(.*; allow_ops names") as caught:
        tried(models["reads"])
    assert caught.value.code is Code.PERMISSION_DENIED
    tried(models["reads"], allow_ops=("ReadFile",))
    path = shutil.copytree(models["good"], tmp_path / "1")
    (path / "manifest.json").write_text("{")
    with pytest.raises(ServingError, match=r"manifest.json") as caught:
        tried(str(path))
    assert caught.value.code is Code.DATA_LOSS
    tried(str(path), check_sums="off")
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"no record" * 9)
    with pytest.raises(ServingError, match="verify your warmup data"):
        tried(str(path), check_sums="off")


def test_tries_go_on_beside_each_other_and_end_when_nobody_waits(models):
    rehearsals = Rehearsals(LoadLimits(60.0))
    found: list[ServingError] = []

    def wait() -> None:
        with pytest.raises(ServingError, match="must come to an end") as caught:
            rehearsals.try_out(Load("m", 1, models["endless"]))
        found.append(caught.value)

    thread = threading.Thread(target=wait)
    thread.start()
    reached(lambda: len(tries()) == 1)
    tried(models["good"])
    assert len(tries()) == 1
    rehearsals.close()
    thread.join(2.0)
    assert [error.code for error in found] == [Code.UNAVAILABLE]
    reached(lambda: not tries())
    with pytest.raises(ServingError, match="must come to an end"):
        rehearsals.try_out(Load("m", 1, models["good"]))


def test_a_helper_that_was_killed_is_started_again(models):
    tried(models["good"])
    (helper,) = helpers()
    helper.kill()
    reached(lambda: helper.status() == psutil.STATUS_ZOMBIE)
    tried(models["good"])
    assert [found.pid for found in helpers()] != [helper.pid]


HELPING = """
import os, socket, subprocess, sys, time
from headrace.serving.server.rehearsal_helper import answer_questions
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
start = time.monotonic()
"""


@pytest.mark.parametrize(
    ("code", "least_s"),
    [
        ("answer_questions(theirs, 0.05)", 0.05),
        ("ours.close(); answer_questions(theirs)", 0.0),
        # A watcher is a child of the helper.
        ("watcher = subprocess.Popen(['sleep', '0.5']); answer_questions(theirs, 0.05)", 0.5),
    ],
    ids=["idle", "alone", "busy"],
)
def test_a_helper_leaves_when_it_is_idle_or_alone_but_not_while_a_try_goes_on(code, least_s):
    code = f"{HELPING}{code}\nprint(time.monotonic() - start)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert float(done.stdout) >= least_s


def reached(wanted: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not _held(wanted):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _held(wanted: Callable[[], bool]) -> bool:
    try:
        return wanted()
    except psutil.Error:  # it ended while we looked
        return False


@pytest.mark.parametrize(
    ("files", "free", "bound"),
    [(0, 100 << 30, 4 << 30), (3 * MIB, 100 << 30, (4 << 30) + 30 * MIB), (0, 1000 * MIB, 800 * MIB)],
)
def test_the_bound_of_memory_follows_the_folder_and_the_machine(tmp_path, monkeypatch, files, free, bound):
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(b"\0" * files)
    monkeypatch.setattr(rehearsal, "_free_bytes", lambda: free)
    seen: list[Any] = []
    monkeypatch.setattr(rehearsal._helpers, "ask", seen.append)
    with pytest.raises(ServingError, match="must come to an end"):
        tried(str(tmp_path))
    assert seen[0]["memory_bytes"] == bound


def test_what_a_machine_has_free_is_read():
    free = psutil.virtual_memory().available
    assert abs(rehearsal._free_bytes() - free) < 0.2 * free


# In the server


def place(root: Path, name: str, model: str, version: int = 1) -> None:
    hidden = root / f".{name}{version}"
    shutil.copytree(model, hidden)
    (root / name).mkdir(exist_ok=True)
    hidden.rename(root / name / str(version))


def test_a_load_that_harms_delays_no_other_and_leaves_the_server(models, tmp_path):
    names = ["endless", "aborts", "good"]
    for name in names:
        place(tmp_path, name, models[name])

    async def work(core: Core) -> None:
        await core.start([ModelEntry(name, str(tmp_path / name)) for name in names])
        await until(lambda: states(core, "good") == {1: State.AVAILABLE})
        await until(lambda: states(core, "aborts") == {1: State.END})
        assert states(core, "endless") == {1: State.LOADING}
        assert await value(core, name="good") == 1.0
        assert core.status("aborts")[0].error_code is Code.INTERNAL
        place(tmp_path, "good", models["good"], 2)
        await until(lambda: states(core, "good").get(2) is State.AVAILABLE)

    settings = Settings(manager=QUICK, allow_ops=("Abort",), rehearse_loads=LoadLimits(60.0))
    start = time.monotonic()
    run(work, settings)  # its end does not wait for the endless one either
    assert time.monotonic() - start < 40.0


def test_a_folder_that_changes_after_the_try_is_not_loaded(models, tmp_path, monkeypatch):
    place(tmp_path, "m", models["good"])
    original = Rehearsals.try_out

    def meanwhile(self: Rehearsals, load: Load) -> None:
        original(self, load)
        Path(load.path, "saved_model.pb").touch()

    monkeypatch.setattr(Rehearsals, "try_out", meanwhile)

    async def work(core: Core) -> None:
        await core.start([ModelEntry("m", str(tmp_path / "m"))])
        await until(lambda: core.manager.statuses("m")[0].error_code is Code.ABORTED)

    run(work, Settings(manager=QUICK, rehearse_loads=LoadLimits(60.0)))


def settings_of(*flags: str) -> Any:
    return run_settings(parse_flags([*flags, "--model_base_path=/"]), []).core


def test_the_command_tries_every_version_unless_told_otherwise():
    assert settings_of().rehearse_loads == LoadLimits(600.0, 0)
    assert settings_of("--max_load_seconds=5", "--max_load_mib=7").rehearse_loads == LoadLimits(5.0, 7 * MIB)
    assert settings_of("--rehearse_loads=false").rehearse_loads is None
    assert settings_of().manager.load_threads == 16
    assert settings_of("--num_load_threads=2").manager.load_threads == 2


@pytest.mark.parametrize("flag", ["--max_load_seconds=0", "--max_load_mib=-1"])
def test_bounds_that_are_none(flag):
    with pytest.raises(ConfigError, match="`--max_load_seconds` must be > 0 and `--max_load_mib` >= 0"):
        settings_of(flag)


SERVE = """
import sys
from headrace.serving.server.command import run_command
run_command(sys.argv[1:], lambda text: print(text, flush=True), print)
"""


@pytest.fixture
def command(models: dict[str, str], tmp_path: Path) -> Iterator[psutil.Process]:
    """`headrace serve` with a good version and one whose load does not end."""
    for name in ("good", "endless"):
        place(tmp_path, name, models[name])
    flags = ["--port=0", "--rest_api_port=0", f"--grpc_socket_path={tmp_path}/socket"]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, *flags, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert server.stdout is not None
    try:
        yield psutil.Process(server.pid)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_server_ends_its_tries(command, number):
    """The helper is forked from the server, which has TensorFlow imported already."""
    family: list[psutil.Process] = []

    def trying() -> bool:
        family[:] = command.children(recursive=True)
        return any(one.cpu_times().user > 1.0 for one in family)  # the endless try

    reached(trying, 60.0)
    assert family[0].cmdline() == command.cmdline()
    start = time.monotonic()
    os.kill(command.pid, number)
    reached(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family))
    with suppress(psutil.NoSuchProcess):
        command.wait(10)
    assert time.monotonic() - start < 10.0
