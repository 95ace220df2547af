"""Launchers: the same folders whoever does the work, and nothing lost when work fails, is killed or is stopped."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest

from orl.launcher import Job, JobError, Launcher

KINDS = ["serial", "process", "ray"]
WORK = '''
import json, os, sys, time
from orl.launcher import Launcher

def count(folder, end, hold_at=None):
    """Counts to `end` with a checkpoint for each number; the first attempt waits at `hold_at` to be killed."""
    folder.mkdir(exist_ok=True)
    checkpoint = folder / "checkpoint"
    start = int(checkpoint.read_text()) if checkpoint.exists() else 0
    with (folder / "starts").open("a") as file:
        file.write(f"{start} ")
    for number in range(start + 1, end + 1):
        checkpoint.write_text(str(number))
        if number == hold_at and start == 0:
            (folder / "holding").write_text(str(os.getpid()))
            time.sleep(60)
    print(f"counted to {end}")
    (folder / "results.json").write_text(json.dumps(sum(range(end + 1))))

def facts(folder):
    import torch
    folder.mkdir()
    content = {"threads": torch.get_num_threads(), "words": sys.argv, "process": os.getpid()}
    (folder / "results.json").write_text(json.dumps(content))

def fail(folder, times):
    folder.mkdir(exist_ok=True)
    attempts = len(list(folder.glob("attempt-*")))
    (folder / f"attempt-{attempts}").touch()
    if attempts < times:
        raise OSError(f"no room for attempt {attempts}")
    (folder / "results.json").write_text("0")

def forget(folder):
    folder.mkdir(exist_ok=True)

def leave(folder):
    sys.exit(3)

def launch(folder, job):
    with Launcher(folder, "process") as there:
        there.map([job])
'''


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A module that workers can import."""
    place = tmp_path_factory.mktemp("modules")
    (place / "orl_tests_work.py").write_text(WORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.setenv("PYTHONPATH", f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")  # for Ray
        yield importlib.import_module("orl_tests_work")


@pytest.fixture(scope="module")
def ray(work: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray of two cores that stays for all tests; a launcher began it and ends it."""
    with Launcher(tmp_path_factory.mktemp("ray"), "ray", workers=2):
        yield


@pytest.fixture
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Launcher]:
    def make(kind: str, **options: Any) -> Launcher:
        if kind == "ray":
            request.getfixturevalue("ray")
        return Launcher(tmp_path / "jobs", kind, **({"workers": 2} | options))  # type: ignore[arg-type]

    return make


def counting(work: Any, end: int, **more: Any) -> Job:
    return Job(functools.partial(work.count, end=end, **more), {"count": end})


def starts(folder: Path) -> list[int]:
    return [int(word) for word in (folder / "starts").read_text().split()]


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_results_lie_in_folders_named_by_the_settings(launcher: Any, work: Any, kind: str) -> None:
    jobs = [counting(work, end) for end in (3, 5, 9)]
    with launcher(kind) as there:
        folders = there.map(jobs)
    assert [json.loads((folder / "results.json").read_text()) for folder in folders] == [6, 15, 45]
    assert [folder.name for folder in folders] == [job.id for job in jobs]
    assert folders == [there.folder / name for name in (Job(work.count, {"count": n}).id for n in (3, 5, 9))]


@pytest.mark.parametrize("kind", KINDS)
def test_futures_are_those_of_the_standard_library(launcher: Any, work: Any, kind: str) -> None:
    with launcher(kind) as there:
        futures = [there.submit(counting(work, end)) for end in (3, 5)]
        again = there.submit(counting(work, 3))
        assert {future.result().name for future in as_completed(futures)} == {counting(work, n).id for n in (3, 5)}
        assert again.result() == futures[0].result()
    assert starts(again.result()) == [0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_finished_is_not_run_again(launcher: Any, work: Any, kind: str) -> None:
    with launcher("serial") as there:
        (folder,) = there.map([counting(work, 4)])
    with launcher(kind) as there:
        assert there.map([counting(work, 4), counting(work, 6)])[0] == folder
    assert starts(folder) == [0]


@pytest.mark.parametrize("kind", ["process", "ray"])
def test_workers_have_one_thread_and_the_words_that_were_typed(
    launcher: Any, work: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["orl", "train", "iql"])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with launcher(kind) as there:
        (folder,) = there.map([Job(work.facts, {})])
    found = json.loads((folder / "results.json").read_text())
    assert (found["threads"], found["words"]) == (1, ["orl", "train", "iql"])
    assert found["process"] != os.getpid()


@pytest.mark.parametrize("kind", ["process", "ray"])
def test_a_log_has_what_a_worker_printed(launcher: Any, work: Any, kind: str, capfd: Any) -> None:
    with launcher(kind) as there:
        (folder,) = there.map([counting(work, 4)])
    assert (there.folder / f"{folder.name}.log").read_text() == "counted to 4\n"
    assert "counted" not in capfd.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_job_is_tried_again_then_named_and_the_others_are_kept(launcher: Any, work: Any, kind: str) -> None:
    twice, always = (Job(functools.partial(work.fail, times=n), {"times": n}) for n in (2, 9))
    jobs = [always, counting(work, 3), twice]
    with launcher(kind, retries=2) as there, pytest.raises(JobError) as caught:
        there.map(jobs)
    said = str(caught.value)
    assert said.startswith("1 of 3 jobs failed, the others are kept: ")
    assert f"{there.folder / always.id}: OSError: no room for attempt 2" in said
    assert twice.id not in said
    assert len(list((there.folder / always.id).glob("attempt-*"))) == 3
    assert len(list((there.folder / twice.id).glob("attempt-*"))) == 3
    log = (there.folder / f"{always.id}.log").read_text()
    assert log.count("Traceback (most recent call last)") == 3
    assert 'raise OSError(f"no room for attempt {attempts}")' in log
    assert (there.folder / counting(work, 3).id / "results.json").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_leaves_no_results_has_failed(launcher: Any, work: Any, kind: str) -> None:
    jobs = [Job(work.forget, {"name": "forget"}), Job(work.leave, {"name": "leave"})]
    with launcher(kind, retries=0) as there:
        with pytest.raises(JobError, match=r"it ended without results\.json .*attempts: 1"):
            there.submit(jobs[0]).result()
        with pytest.raises(JobError, match=r"2 of 2 jobs failed.*SystemExit: 3"):
            there.map(jobs)


@pytest.mark.parametrize("kind", ["process", "ray"])
def test_a_killed_worker_loses_nothing(launcher: Any, work: Any, kind: str) -> None:
    with launcher(kind, retries=1) as there:
        future = there.submit(counting(work, 8, hold_at=5))
        other = there.submit(counting(work, 9))
        holding = wait_for(there.folder / counting(work, 8).id / "holding")
        os.kill(int(holding), signal.SIGKILL)
        folder = future.result()
        assert json.loads((folder / "results.json").read_text()) == 36
        assert starts(folder) == [0, 5]
        assert starts(other.result()) == [0]


@pytest.mark.parametrize(("kind", "how"), [("process", "exit code -9"), ("ray", "WorkerCrashedError")])
def test_without_retries_a_killed_worker_is_named(launcher: Any, work: Any, kind: str, how: str) -> None:
    job = counting(work, 8, hold_at=5)
    with launcher(kind, retries=0) as there:
        future = there.submit(job)
        os.kill(int(wait_for(there.folder / job.id / "holding")), signal.SIGKILL)
        with pytest.raises(JobError, match=how):
            future.result()


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Also where a shell started the tests in the background, and with it ignoring Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("kind", ["process", "ray"])
def test_ctrl_c_stops_the_workers_and_the_next_start_goes_on(launcher: Any, work: Any, kind: str) -> None:
    held, waiting = counting(work, 8, hold_at=5), [counting(work, 20), counting(work, 21)]
    there = launcher(kind, workers=1, retries=3)
    holding = there.folder / held.id / "holding"
    threading.Thread(target=lambda: (wait_for(holding), os.kill(os.getpid(), signal.SIGINT))).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), there:
        there.map([held, *waiting])
    assert time.monotonic() - begun < 40  # it would have slept for a minute
    assert not_running(int(holding.read_text()))
    assert not any((there.folder / job.id).exists() for job in waiting[1:])
    with launcher(kind) as there:
        there.map([held, *waiting])
    assert starts(there.folder / held.id) == [0, 5]


def not_running(process: int) -> bool:
    """Whether a process ends within ten seconds; one that nobody has waited for yet has ended."""
    for _ in range(500):
        try:
            if Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_workers_end_with_their_parent(work: Any, tmp_path: Path) -> None:
    parent = multiprocessing.get_context("spawn").Process(
        target=work.launch, args=(tmp_path, counting(work, 8, hold_at=5))
    )
    parent.start()
    holding = int(wait_for(tmp_path / counting(work, 8).id / "holding"))
    parent.kill()
    parent.join()
    assert not_running(holding)


def test_work_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with Launcher(tmp_path, "process") as there, pytest.raises(JobError, match=r"[0-9a-f]{16}: .*<lambda>"):
        there.map([Job(lambda folder: None, {})])


def test_a_job_is_known_by_its_settings_in_any_order() -> None:
    one, same, other = (
        Job(print, settings) for settings in ({"a": 1, "b": {"c": 2.0}}, {"b": {"c": 2.0}, "a": 1}, {"a": 1})
    )
    assert one.id == same.id != other.id
    with pytest.raises(ValueError, match="JSON"):
        _ = Job(print, {"a": float("nan")}).id


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "slurm"}, "launcher 'slurm': choose one of serial, process, ray"),
        ({"kind": "process", "workers": 0}, "workers=0: give 1 or more"),
        ({"retries": -1}, "retries=-1: give 0 or more"),
        ({"kind": "process", "gpus": 0.5}, "gpus=0.5 with the launcher 'process': Ray alone shares GPUs out"),
        ({"kind": "ray", "gpus": -1.0}, "gpus=-1.0"),
    ],
)
def test_bad_arguments_are_refused_before_there_is_a_folder(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Launcher(tmp_path / "jobs", **options)
    assert not (tmp_path / "jobs").exists()


def test_without_ray_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Ray is not installed; pip install 'orl\[ray\]'"):
        Launcher(tmp_path / "jobs", "ray")


def test_a_ray_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def fails(**_: Any) -> None:
        raise Exception("the node timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    launcher = Launcher(tmp_path / "jobs", "ray")
    with pytest.raises(ConnectionError, match="Ray does not start: the node timed out"), launcher:
        pytest.fail("started")
