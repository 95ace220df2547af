"""The command line `orl VERB`."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import io
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import tyro
from rich.console import Console
from rich.table import Table

import orl
from orl.device import keep_memory
from orl.launcher import JobError
from orl.spelling import did_you_mean

if TYPE_CHECKING:
    from orl.scripts.running.registry import Preset

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; docs/performance.md has what more of them cost and bring

VERBS = {  # verb: (module and name of what tyro parses, summary)
    "demo": ("demo:Demo", "The main job in minutes: a good policy from 1 % of the rewards, with table and figures."),
    "dataset": ("dataset:DatasetVerbs", "Make, list, describe and convert datasets."),
    "train": (
        "train:Train",
        "Train an agent: on recorded data, in an environment, or first the one and then the other.",
    ),
    "specialists": ("specialists:Specialists", "Train one policy for each context, all of them together."),
    "zero-shot": ("zero_shot:ZeroShot", "Policies for contexts that nobody trained on, from a hypernetwork."),
    "select": ("select:Select", "Choose the few contexts worth training in (MBTL), and train there."),
    "generalist": (
        "generalist:Generalist",
        "One policy for all contexts from a few well-chosen ones: MBTL and HyperZero.",
    ),
    "evaluate": ("evaluate:Evaluate", "Play episodes with a trained agent; --video films one."),
    "benchmark": (
        "benchmark:Benchmark",
        "Train a file of agents, environments and seeds; log what each cost.",
    ),
    "compare": ("compare:Compare", "What runs show: means, differences, tests over seeds and tasks, figures."),
    "plot": ("plot:Plot", "Learning curves and scores of runs, side by side."),
    "speed": ("speed:Speed", "Time updates, environments and predictions against baselines on this machine."),
}
OF_AN_AGENT = ("train", "specialists")  # verbs whose first word is an agent's name
HELP = ("-h", "--help")


class Verb(Protocol):
    """A verb's options."""

    def run(self) -> None:
        """Do what they say."""
        ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb. A failure is one line on stderr and status 2; a word that is no option, what tyro says of it."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in HELP:
        _help(
            "orl VERB ...    `orl VERB --help` explains a verb",
            {verb: summary for verb, (_, summary) in VERBS.items()},
            "--version prints the version; --debug shows the traceback of an error.",
        )
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


def parse(words: Sequence[str]) -> Verb:
    """The verb's options, as an object with a `run` method."""
    if words[0] in OF_AN_AGENT:
        return _parse_agent(f"orl {words[0]}", words[1:], _module(words[0]))
    return _parse(getattr(_module(words[0]), VERBS[words[0]][0].split(":")[1]), words[1:], prog=f"orl {words[0]}")


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"orl.scripts.commands.{VERBS[verb][0].split(':')[0]}")


def agents_of(verb: str) -> list[str]:
    """Names that can follow a verb of `OF_AN_AGENT`."""
    return list(_module(verb).agents())


def _parse_agent(verb: str, words: Sequence[str], module: ModuleType) -> Verb:
    """The options of a verb that begins with an agent's name; only those that this agent has."""
    agents = module.agents()
    if words[:1] and words[0] in HELP:
        about = f"{verb} AGENT ...    `{verb} AGENT --help` lists its options, -H explains them"
        _help(about, {name: preset.summary for name, preset in agents.items()})
        sys.exit(0)
    if not words or words[0] not in agents:
        which = f"has no agent {words[0]!r}" if words and not words[0].startswith("-") else "AGENT: no agent is named"
        fail(f"{verb} {which}; {did_you_mean(words[0] if words else '', agents)}")
    name, preset = words[0], _asked_for(agents[words[0]], words[1:])
    default = module.options(name, preset)
    return _parse(
        type(default)[type(preset.config)],
        words[1:],
        prog=f"{verb} {name}",
        default=default,
        description=f"{preset.summary}\n\n{inspect.getdoc(type(default))}",
        compact_help=True,
    )


def _asked_for(preset: Preset, words: Sequence[str]) -> Preset:
    """An agent's preset, small where `--preset small` is among the words: defaults come before tyro reads them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--preset", "--env"):
        parser.add_argument(option, nargs="?")
    asked = parser.parse_known_args(words)[0]
    return preset.small(asked.env) if asked.preset == "small" else preset


def _parse(options: Any, words: Sequence[str], **how: Any) -> Verb:
    """What tyro makes of the words. It says itself what is wrong with them; a check of ours that fails is one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed: Verb = tyro.cli(options, args=words, **how)
    except SystemExit as stop:
        if (failed := _check_that_failed(stop)) is not None:
            fail(str(failed))
        sys.stderr.write(said.getvalue())
        raise
    return parsed


def _check_that_failed(stop: BaseException) -> ValueError | None:
    """The error of a configuration's own check, such as of a fraction above 1, in what led to an exit."""
    error: BaseException | None = stop
    while error is not None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        raised_in = trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""
        if isinstance(error, ValueError) and raised_in.startswith("orl."):
            return error
        error = error.__context__
    return None


def fail(message: str) -> NoReturn:
    """Say what was wrong in one line and leave with status 2."""
    print(f"orl: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _help(usage: str, names: Mapping[str, str], more: str = "") -> None:
    """What can be named, each with its summary."""
    console = Console()
    console.print(f"usage: {usage}\n", highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, summary in names.items():
        table.add_row(f"  {name}", summary)
    console.print(table)
    if more:
        console.print(f"\n{more}", highlight=False)


# Checks of options that several verbs have.


def check_least(options: object, least: int, *names: str) -> None:
    """Refuse numbers below `least`, of the options named; None is not given.

    Raises:
        ValueError: such a number.
    """
    for name in names:
        number = getattr(options, name)
        if number is not None and number < least:
            raise ValueError(f"--{name.replace('_', '-')} {number}: give {least} or more")


def check_labels(labels: float | None) -> None:
    """Refuse a share of labels outside (0, 1].

    Raises:
        ValueError: such a share.
    """
    if labels is not None and not 0 < labels <= 1:
        raise ValueError(f"--labels {labels}: the share of rewards to keep lies in (0, 1]")
