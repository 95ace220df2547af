"""The command line `orl VERB`."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import tyro
from rich.console import Console
from rich.table import Table

import orl
from orl.allocator import keep_memory
from orl.launcher import JobError
from orl.spelling import did_you_mean

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; docs/performance.md has what more of them cost and bring

VERBS = {  # verb: (module and name of what tyro parses, summary)
    "demo": ("demo:Demo", "The main job in minutes: a good policy from 1 % of the rewards, with table and figures."),
    "dataset": ("dataset:DatasetVerbs", "Make, list, describe and convert datasets."),
    "train": (
        "train:TrainVerbs",
        "Train an agent: on recorded data (bc, td3bc, iql) or acting (sac, redq, droq, speq).",
    ),
    "specialists": ("specialists:SpecialistVerbs", "Train one policy for each context, all of them together."),
    "zero-shot": ("zero_shot:ZeroShot", "Policies for contexts that nobody trained on, from a hypernetwork."),
    "select": ("select:Select", "Choose the few contexts worth training in (MBTL), and train there."),
    "generalist": (
        "generalist:Generalist",
        "One policy for all contexts from a few well-chosen ones: MBTL and HyperZero.",
    ),
    "evaluate": ("evaluate:Evaluate", "Play episodes with a trained agent; --video films one."),
    "plot": ("plot:Plot", "Learning curves and scores of runs, side by side."),
    "speed": ("speed:Speed", "Time updates, environments and predictions against peers on this machine."),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; a failure is one line on stderr and status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        _help()
        return
    if words[0] == "--version":
        print(f"orl {orl.__version__}")
        return
    if words[0] not in VERBS:
        fail(f"no verb {words[0]!r}; {did_you_mean(words[0], VERBS)}")
    keep_memory()
    warnings.formatwarning = lambda message, *_, **__: f"orl: {message}\n"
    try:
        parse(words).run()
    except KeyboardInterrupt:
        print("orl: interrupted; the same command resumes at the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        of_cuda = type(error).__name__ == "OutOfMemoryError"  # torch's, by name: torch need not be imported
        if debug or not (of_cuda or isinstance(error, ValueError | MemoryError | OSError | JobError)):
            raise
        fail(str(error) or type(error).__name__)


def _check_agent(verb: str, name: str) -> None:
    """Refuse an agent that the verb has not, in fewer words than a parser of options has."""
    from orl.scripts.running.registry import ACTING, PRESETS

    names = [each for each, (kind, _) in PRESETS.items() if verb == "train" or kind in ACTING]
    if name not in names:
        fail(f"orl {verb} has no agent {name!r}; {did_you_mean(name, names)}")


def parse(words: Sequence[str]) -> Any:
    """The verb's options, as an object with a `run` method."""
    if words[0] in ("train", "specialists") and words[1:2] and not words[1].startswith("-"):
        _check_agent(*words[:2])
    module, name = VERBS[words[0]][0].split(":")
    kind = getattr(importlib.import_module(f"orl.scripts.commands.{module}"), name)
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages), _unbroken_lines(words):
            return tyro.cli(kind, prog=f"orl {words[0]}", args=words[1:])
    except SystemExit as stop:
        if stop.code:
            fail(_one_line(messages.getvalue()))
        raise


def fail(message: str) -> NoReturn:
    """Say what was wrong in one line and leave with status 2."""
    print(f"orl: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


@contextlib.contextmanager
def _unbroken_lines(words: Sequence[str]) -> Iterator[None]:
    """Let tyro write a message without breaking its lines at the terminal's width; help is left as it is."""
    if {"-h", "--help"} & set(words):
        yield
        return
    width = os.environ.pop("COLUMNS", None)
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if width is not None:
            os.environ["COLUMNS"] = width


def _one_line(boxed: str) -> str:
    """The sentences of tyro's framed message, without the list of agents that have an option like a mistyped one."""
    lines = (re.sub(r"[│─╭╮╰╯]|-{4,}|^[+|]|[+|]$", "", line.strip()).strip() for line in boxed.splitlines()[1:])
    said = dict.fromkeys(re.sub(r"^Error parsing __tyro\S*: ", "", line) for line in lines if line)
    kept = [line for line in said if line != "[...]" and not re.fullmatch(r"in orl .*--help", line)]
    return "; ".join(line.removesuffix(".") for line in kept).replace(":; ", ": ")


def _help() -> None:
    console = Console()
    console.print("usage: orl VERB ...    `orl VERB --help` explains a verb\n")
    table = Table(box=None, show_header=False, pad_edge=False)
    for verb, (_, summary) in VERBS.items():
        table.add_row(f"  {verb}", summary)
    console.print(table)
    console.print("\n--version prints the version; --debug shows the traceback of an error.")
