"""`orl benchmark`: cells of a file, each as `orl train` would train it; what is refused, and what fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.scripts.benchmarks.prices import Price, write_prices
from orl.scripts.commands import benchmark
from orl.scripts.commands.benchmark import Cell, read_cells
from orl.scripts.main import parse

CELLS = """
[defaults]
env = "Pendulum-v1"
steps = 40
seeds = 2
first_seed = 7
eval_every = 20
eval_episodes = 1
bias_episodes = 0
checkpoint_every = 20
device = "cpu"
config = { hidden_sizes = [8, 8], batch_size = 8, learning_starts = 10, buffer_size = 500, target_entropy = -1 }

[[cells]]
name = "one"
agent = "sac"

[[cells]]
name = "other"
agent = "droq"
config = { utd_ratio = 2, policy_delay = 2, dropout_rate = 0.1 }
"""
EXAMPLE = Path(__file__).parents[2] / "results" / "online" / "hopper-100.toml"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The file of cells, with more below, and with words replaced."""

    def file(more: str = "", **replaced: str) -> Path:
        text = CELLS
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "cells.toml"
        path.write_text(text + more)
        return path

    return file


def cells(path: Path, prices: str = "none") -> list[Cell]:
    return read_cells(path, path.parent / "out", path.parent / prices)


def test_cells_are_trained_and_finished_ones_are_not_trained_again(
    here: Any, write: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One cell was trained by `orl train` before, with the same configuration."""
    prices = [
        Price("sac", kind, "cpu", "eager", (8, 8), 8, 2, milliseconds)
        for kind, milliseconds in (("update", 1e-6), ("critic_update", 1e-6))
    ]
    write_prices(tmp_path / "prices.json", prices, {})
    path, out = write(), tmp_path / "out"
    one, other = cells(path)
    here(*one.command.replace("orl ", "").split(), "--out", out / "one")
    before = (out / "one" / "history.json").read_text()
    words = ("benchmark", path, "--out", out, "--launcher", "serial", "--prices", tmp_path / "prices.json")
    here(*words, "--dry-run")
    shown = capsys.readouterr().out
    assert "waits" in shown
    assert not (out / "cells.json").exists()
    here(*words)
    assert (out / "one" / "history.json").read_text() == before
    shown = capsys.readouterr().out
    assert "other: " in shown
    assert "times its prediction of 1.67e-11" in shown
    rows = json.loads((out / "cells.json").read_text())["rows"]
    assert [(row["cell"], row["state"].split(",")[0]) for row in rows] == [("one", "done before"), ("other", "done")]
    assert rows[1]["seeds"] == [7, 8]
    assert rows[1]["core_hours"] > 0
    assert rows[1] == json.loads((out / "other" / "cell.json").read_text())
    history = json.loads((out / "other" / "history.json").read_text())
    assert np.shape(history[-1]["returns"]) == (2, 1)
    assert history[-1]["processor_seconds"] > history[0]["processor_seconds"] >= 0
    table = (out / "cells.md").read_text()
    assert f"| other | `{other.command}` | 7 to 8 | 1.67e-11 | " in table
    here(*words)
    assert (out / "one" / "history.json").read_text() == before


def test_a_cell_that_fails_is_named_and_the_rest_goes_on(
    write: Any, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = benchmark._train_cell

    def fails(training: Any, folder: Path) -> None:
        if folder.name == "one":
            raise MemoryError("no room")
        train(training, folder)

    monkeypatch.setattr(benchmark, "_train_cell", fails)
    said = refused("benchmark", write(), "--out", tmp_path / "out", "--launcher", "serial")
    assert "1 of 2 cells failed, the others are done: one: failed:" in said
    assert "MemoryError: no room" in said
    rows = json.loads((tmp_path / "out" / "cells.json").read_text())["rows"]
    assert rows[0]["state"].startswith("failed: ")
    assert rows[1]["state"] == "done"
    monkeypatch.setattr(benchmark, "_train_cell", train)
    from orl.scripts.main import main

    main(["benchmark", str(write()), "--out", str(tmp_path / "out"), "--launcher", "serial"])
    rows = json.loads((tmp_path / "out" / "cells.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["done", "done before"]


def test_cells_run_in_processes_of_their_own(here: Any, write: Any, tmp_path: Path) -> None:
    here("benchmark", write(), "--out", tmp_path / "out")
    for name in ("one", "other"):
        config = json.loads((tmp_path / "out" / name / "config.json").read_text())
        assert config["threads"] == 1
        assert "Traceback" not in (tmp_path / "out" / f"{name}.log").read_text()


def test_lists_are_multiplied_and_named(write: Any) -> None:
    more = """
[[cells]]
agent = ["sac", "droq"]
env = ["Pendulum-v1", "Hopper-v5"]
first_seed = [0, 10]
"""
    made = cells(write(more))[2:]
    assert len(made) == 8
    assert made[1].name == "Pendulum-v1-sac-10"
    assert made[-1].training.seed_numbers == [10, 11]
    assert made[-1].training.config.hidden_sizes == (8, 8)


def test_the_command_of_a_cell_does_the_same(write: Any) -> None:
    for cell in cells(write()):
        parsed: Any = parse(cell.command.split()[1:])
        parsed.check()
        assert parsed.described(None, "Pendulum-v1") == cell.training.described(None, "Pendulum-v1")


def test_the_command_of_a_small_preset_names_it_and_nothing_that_it_sets(tmp_path: Path) -> None:
    path = tmp_path / "cells.toml"
    path.write_text('[[cells]]\nagent = "sac"\nenv = "Hopper-v5"\npreset = "small"\nconfig = { tau = 0.01 }\n')
    (cell,) = cells(path)
    assert cell.training.config.hidden_sizes == (128, 128)
    assert cell.command == "orl train sac --tau 0.01 --preset small --env Hopper-v5 --threads 1"
    parsed: Any = parse(cell.command.split()[1:])
    assert parsed.described(None, "Hopper-v5") == cell.training.described(None, "Hopper-v5")


def test_another_configuration_in_its_folder_is_refused(here: Any, write: Any, refused: Any, tmp_path: Path) -> None:
    (one, _) = cells(write())
    here(*one.command.replace("orl ", "").split(), "--out", tmp_path / "out" / "one", "--discount", 0.9)
    said = refused("benchmark", write(), "--out", tmp_path / "out")
    assert "one: " in said
    assert "holds a run with discount = 0.9, not 0.99; change the cell, or give another --out" in said


def test_a_folder_without_an_evaluation_is_to_be_deleted(here: Any, write: Any, refused: Any, tmp_path: Path) -> None:
    """A cell that diverged says that its learning rate has to be lowered: then the folder is in the way."""
    config, words = "config = { hidden_sizes", ("--out", tmp_path / "out", "--launcher", "serial")
    refused("benchmark", write(**{config: "config = { learning_rate = 1e30, hidden_sizes"}), *words)
    said = refused("benchmark", write(), *words)
    assert "delete the folder, which holds no evaluation, or give another --out" in said


def test_the_example_of_the_repository_holds_the_cell_that_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    sac, droq, speq = read_cells(EXAMPLE, EXAMPLE.parent, Path("none"))
    assert (sac.is_finished, sac.training.seed_numbers) == (True, list(range(100, 110)))
    sac.check()  # its configuration is that of the results
    assert droq.training.config.policy_delay == 8
    assert speq.training.config.phase_updates == 75_000
    assert "no price of an update of droq" in droq.predicted.note


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"steps = 40": "stepz = 40"}, "unknown key 'stepz'; did you mean steps"),
        ({"[defaults]": "[default]"}, "unknown key 'default'; did you mean defaults"),
        ({"steps = 40": 'steps = "many"'}, "steps='many': give"),
        ({"steps = 40": "steps = 0"}, "--steps 0: give 1 or more"),
        ({'agent = "droq"': 'agent = "drok"'}, "no agent 'drok'; did you mean droq"),
        (
            {"policy_delay = 2": "policy_dilay = 2"},
            "'policy_dilay' is not a field of SACConfig; did you mean policy_delay",
        ),
        ({"Pendulum-v1": "Pendulumm-v1"}, "Pendulumm-v1"),
        ({'name = "other"': 'name = "one"'}, "two cells are called 'one'; give each a name"),
        ({'agent = "droq"': 'agent = ["droq", "sac"]'}, "name 'other' for several cells"),
        ({"steps = 40": "steps = 40,"}, "not TOML"),
        ({CELLS: "cells = [3]"}, "write one [defaults] and at least one [[cells]]"),
        (
            {"config = { utd_ratio = 2, policy_delay = 2, dropout_rate = 0.1 }": "config = 3"},
            "config = 3: give a table",
        ),
        ({'name = "other"\nagent = "droq"': "agent = []"}, "agent = []: give at least one"),
        ({'name = "other"': 'name = "../other"'}, "name = '../other': give a name in quotes that a folder can have"),
        ({'name = "other"': 'name = ""'}, "name = '': give a name in quotes that a folder can have"),
        ({'name = "one"': "first_seed = [6, 7]"}, "Pendulum-v1-sac-6 and Pendulum-v1-sac-7 both train seed 7; give"),
        ({'name = "other"': 'name = ".."'}, "name = '..': give a name in quotes that a folder can have"),
        ({'[defaults]\nenv = "Pendulum-v1"': "[defaults]"}, "orl train sac acts: give --env"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    write: Any, refused: Any, tmp_path: Path, replaced: dict[str, str], words: str
) -> None:
    said = refused("benchmark", write(**replaced), "--out", tmp_path / "out", "--launcher", "serial")
    assert words in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "cells = [1]", "[cells]", 'defaults = 1\n[[cells]]\nagent = "sac"'])
def test_a_file_of_something_else(refused: Any, tmp_path: Path, text: str) -> None:
    path = tmp_path / "cells.toml"
    path.write_text(text)
    assert "write one [defaults] and at least one [[cells]]" in refused("benchmark", path)


def test_no_workers_are_refused(write: Any, refused: Any) -> None:
    assert "--workers 0: give 1 or more" in refused("benchmark", write(), "--workers", 0)


def test_without_prices_the_dry_run_says_where_they_come_from(
    here: Any, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    here("benchmark", write(), "--dry-run", "--prices", "nowhere.json")
    assert "`orl speed --parts sizes --out FOLDER`" in capsys.readouterr().out


def test_a_file_that_is_not_there(refused: Any) -> None:
    assert "cells.toml: no such file; give a TOML file of cells" in refused("benchmark", "cells.toml")
