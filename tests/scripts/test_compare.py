"""`orl compare`: tables by hand, runs that were stored long ago, and what a new user gets wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orl import datasets, statistics

RESULTS = Path(__file__).parents[2] / "results" / "online"
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A folder of a run: its seeds' returns at the last of six evaluations, which rise to them evenly."""

    def run(name: str, final: Sequence[float], *, env: str = "Hopper-v5", **config: Any) -> Path:
        steps, first = config.pop("steps", 60), config.pop("first_seed", 0)
        folder = tmp_path / name
        folder.mkdir()
        about = {"agent": "sac", "env": env, "first_seed": first, "seeds": len(final), "steps": steps}
        described = about | {"config": {"discount": 0.99, "utd_ratio": 1.0}} | config
        rows = [
            {
                "steps": step, "updates": step, "after_phase": False, "part": "online", "seconds": 2.0 * step,
                "training_seconds": 1.5 * step, "processor_seconds": 1.0 * step, "critic_bias": None,
                "stabilization_updates": [0] * len(final),
                "returns": [[value * step / steps] * 2 for value in final],
            }
            for step in range(steps // 6, steps + 1, steps // 6)
        ]  # fmt: skip
        (folder / "config.json").write_text(json.dumps(described))
        (folder / "history.json").write_text(json.dumps(rows))
        return folder

    return run


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open() as file:
        return list(csv.DictReader(file))


def test_two_agents_by_hand(here: Any, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = [500.0, 700, 600, 650, 550], [300.0, 350, 250, 320, 280]
    runs = make("one", one), make("two", other, agent="droq")
    words = ("--measure", "final", "--against", "droq", "--margin", 0.1)
    here("compare", *runs, *words, "--out", tmp_path / "out")
    shown = capsys.readouterr().out
    assert "last evaluation, against droq; Holm over 1 test, Hopper-v5" in shown
    summary = table(tmp_path / "out", "summary.csv")
    assert [(row["agent"], row["measure"]) for row in summary] == [
        (agent, measure)
        for agent in ("sac", "droq")
        for measure in ("mean of the last 5 evaluations", "last evaluation", "best evaluation")
    ]  # too few steps for an area from 10,000 on
    final = summary[1]
    expected = statistics.mean(one)
    assert expected.interval is not None
    assert [float(final[name]) for name in ("mean", "mean_low", "mean_high")] == [expected.value, *expected.interval]
    assert final["seed_returns"] == "500.0 700.0 600.0 650.0 550.0"
    assert float(summary[0]["mean"]) == pytest.approx(600 * (2 + 3 + 4 + 5 + 6) / 6 / 5)
    (test,) = table(tmp_path / "out", "comparisons.csv")
    assert (test["env"], test["agent"], test["against"]) == ("Hopper-v5", "sac", "droq")
    assert float(test["difference"]) == 300
    assert float(test["ratio"]) == 2
    difference, ratio = statistics.difference(one, other).interval, statistics.ratio(one, other).interval
    assert difference is not None
    assert ratio is not None
    assert [float(test[name]) for name in ("difference_low", "difference_high")] == pytest.approx(difference)
    assert [float(test[name]) for name in ("ratio_low", "ratio_high")] == pytest.approx(ratio)
    assert float(test["p_value"]) == float(test["p_holm"]) == pytest.approx(2 / 252)
    assert float(test["better"]) == 1
    assert test["not_inferior"].startswith("yes")
    assert (
        "| environment | agent |" in (tmp_path / "out" / "tables.md").read_text()
        or "| agent |" in (tmp_path / "out" / "tables.md").read_text()
    )
    latex = (tmp_path / "out" / "tables.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2
    for figure in ("curves-Hopper-v5", "profiles"):
        with Image.open(tmp_path / "out" / f"{figure}.png") as image:
            assert image.width > 300


def test_blocks_of_seeds_are_put_together_and_agents_told_apart(here: Any, make: Make, tmp_path: Path) -> None:
    runs = (
        make("a", [1.0, 2.0]), make("b", [3.0, 4.0, 5.0], first_seed=100),
        make("c", [7.0, 8.0], config={"discount": 0.9, "utd_ratio": 1.0}),
    )  # fmt: skip
    here("compare", *runs, f"mine={make('d', [9.0, 10.0])}", "--measure", "final", "--out", tmp_path / "out")
    rows = [row for row in table(tmp_path / "out", "summary.csv") if row["measure"] == "last evaluation"]
    assert [(row["agent"], row["seeds"]) for row in rows] == [
        ("sac (discount=0.99)", "0 1 100 101 102"),
        ("sac (discount=0.9)", "0 1"),
        ("mine", "0 1"),
    ]
    assert rows[0]["seed_returns"] == "1.0 2.0 3.0 4.0 5.0"
    assert rows[0]["mean_low"] != ""
    assert rows[1]["mean_low"] == ""
    p_values = [float(row["p_value"]) for row in table(tmp_path / "out", "comparisons.csv")]
    holm = [float(row["p_holm"]) for row in table(tmp_path / "out", "comparisons.csv")]
    assert holm == pytest.approx(statistics.holm(p_values))


def test_tasks_are_pooled_by_their_scores(here: Any, make: Make, tmp_path: Path) -> None:
    envs, generator = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5"), np.random.default_rng(0)
    returns = {(a, env): generator.uniform(500, 1_500, 5) for a in ("sac", "droq") for env in envs}
    runs = [make(f"{a}-{env}", values.tolist(), env=env, agent=a) for (a, env), values in returns.items()]
    here("compare", *runs, "--measure", "final", "--out", tmp_path / "out")
    scores = {env: datasets.normalized_score(env, returns["sac", env]) for env in envs}
    pooled = table(tmp_path / "out", "pooled.csv")[0]
    low, high = statistics.interval(scores)
    middle = float(statistics.interquartile_mean(np.concatenate(list(scores.values()))))
    assert [float(pooled[name]) for name in ("mean", "mean_low", "mean_high")] == pytest.approx([middle, low, high])
    tests = table(tmp_path / "out", "comparisons.csv")
    assert [row["env"] for row in tests] == [*envs, "all tasks (score)"]
    others = {env: datasets.normalized_score(env, returns["droq", env]) for env in envs}
    assert float(tests[-1]["difference"]) == pytest.approx(statistics.difference(others, scores).value)


def test_a_title_has_words_and_no_number_without_its_name(here: Any, make: Make, tmp_path: Path) -> None:
    runs = make("one", [5.0, 7.0]), make("two", [3.0, 4.0], agent="droq"), make("three", [1.0, 2.0], agent="redq")
    here("compare", *runs, "--out", tmp_path / "out")
    assert {row["p_holm"] for row in table(tmp_path / "out", "comparisons.csv")} == {"0.6666666666666666"}
    text = (tmp_path / "out" / "tables.md").read_text()
    assert "against sac; Holm over 2 tests, Hopper-v5\n\n| agent |" in text
    assert "| p, Holm |" in text


def test_stored_runs_of_three_seeds_are_read(here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have no processor seconds, and no parts."""
    runs = [RESULTS / name for name in ("hopper-speq", "hopper-droq-twin", "hopper-sac-100")]
    here("compare", *runs, "--out", tmp_path / "out")
    rows = {(row["agent"], row["measure"]): row for row in table(tmp_path / "out", "summary.csv")}
    assert round(float(rows["speq", "mean of the last 5 evaluations"]["mean"])) == 1169
    assert rows["speq", "mean of the last 5 evaluations"]["mean_low"] == ""
    area = rows["sac", "mean return from 10,000 steps on"]
    assert [round(float(area[name])) for name in ("mean", "mean_low", "mean_high")] == [517, 355, 678]
    assert "fewer than 5 seeds" in capsys.readouterr().out


def test_runs_on_data_count_updates(here: Any, make: Make, tmp_path: Path) -> None:
    run = make("a", [1.0, 2.0], dataset="orl/hopper/medium-v0", agent="iql")
    rows = json.loads((run / "history.json").read_text())
    for row in rows:
        row |= {"steps": 0, "part": "offline"}
    (run / "history.json").write_text(json.dumps(rows))
    here("compare", run, "--auc-from", 10, "--measure", "auc", "--out", tmp_path / "out")
    row = table(tmp_path / "out", "summary.csv")[1]
    assert (row["env"], row["measure"]) == ("orl/hopper/medium-v0", "mean return from 10 updates on")


def test_evaluations_that_all_have_are_compared(
    here: Any, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse, fine = make("a", [6.0, 12.0], agent="droq"), make("b", [6.0, 12.0])
    rows = json.loads((coarse / "history.json").read_text())
    (coarse / "history.json").write_text(json.dumps(rows[1::2]))
    here("compare", coarse, fine, "--last", 2, "--out", tmp_path / "out")
    assert "Hopper-v5: 3 evaluations that all runs have, of 6" in capsys.readouterr().out
    rows_ = table(tmp_path / "out", "summary.csv")
    assert rows_[0]["seed_returns"] == rows_[3]["seed_returns"]
    here("compare", coarse, fine, "--last", 2, "--until", 40, "--out", tmp_path / "out")
    assert table(tmp_path / "out", "summary.csv")[1]["seed_returns"] == "4.0 8.0"


def test_a_seed_without_finite_returns_is_left_out(
    here: Any, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make("a", [6.0, 12.0])
    text = (run / "history.json").read_text()
    (run / "history.json").write_text(text.replace("12.0, 12.0", "NaN, NaN"))
    here("compare", run, "--out", tmp_path / "out")
    assert "seed 1 of sac in Hopper-v5 has returns that are not finite: it is left out" in capsys.readouterr().out
    assert table(tmp_path / "out", "summary.csv")[0]["seeds"] == "0"


def test_a_run_without_an_evaluation_is_named(
    here: Any, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a cell that failed, in the folder of a benchmark."""
    make("a", [6.0, 12.0])
    (make("b", [6.0, 12.0]) / "history.json").unlink()
    here("compare", tmp_path, "--out", tmp_path / "out")
    assert f"{tmp_path / 'b'}: no evaluation, so it is left out" in capsys.readouterr().out


def test_one_seed_has_no_test(here: Any, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here("compare", make("a", [1.0]), make("b", [2.0], agent="droq"), "--out", tmp_path / "out")
    assert "one seed, so no interval and no test; train more" in capsys.readouterr().out
    assert table(tmp_path / "out", "comparisons.csv")[0]["p_value"] == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sacc",), "sacc: no such folder; did you mean sac?"),
        (("nowhere/else",), "nowhere/else: no such folder; name folders of runs"),
        ((".",), "runs in Hopper-v5 end at different counts: again 60, sac 60, short 30; give --until 30"),
        (("sac/history.json",), "sac/history.json: a file; name the folder of its run, such as sac"),
        (("x/bare",), "x/bare: its config.json and history.json are no run's; copy the whole folder of a run"),
        (("empty",), "empty: no history.json; give a folder that `orl train`"),
        (("sac", "short"), "runs in Hopper-v5 end at different counts: sac 60, short 30; give --until 30"),
        (("sac", "x/odd"), "end at different counts: sac 60, x/odd 24; give --until 20"),
        (
            ("sac", "x/odder"),
            "end at different counts: sac 60, x/odder 18; no evaluation is one of all: leave some out",
        ),
        (("sac", "short", "--until", 25), "--until 25: sac has no evaluation there; it has 10, 20, 30, ..., 60"),
        (("sac", "cheetah"), "no task in which both ran: droq in HalfCheetah-v5, sac in Hopper-v5; name runs"),
        (("sac", "again"), "seed 0 of sac in Hopper-v5 is in sac and again; leave one out, or name them apart"),
        (("sac", "--last", 9), "sac in Hopper-v5: 6 evaluations: 9 are to be averaged"),
        (("sac", "--measure", "auc"), "0 evaluations from 10,000 on: an area needs two"),
        (("sac", "--against", "sca"), "--against sca: no such agent; did you mean sac?"),
        (("sac", "--margin", 10), "--margin 10.0: the share that may be lost lies in [0, 1), such as 0.1"),
        (("sac", "--last", 0), "--last 0: give 1 or more"),
    ],
)
def test_what_a_new_user_gets_wrong(
    make: Make, refused: Any, tmp_path: Path, words: tuple[Any, ...], said: str
) -> None:
    make("sac", [1.0, 2.0])
    make("again", [1.0, 2.0])
    make("short", [1.0, 2.0], steps=30, agent="droq")
    (tmp_path / "x").mkdir()
    (make("x/bare", [1.0, 2.0]) / "config.json").unlink()
    make("x/odd", [1.0, 2.0], steps=24, agent="droq")
    make("x/odder", [1.0, 2.0], steps=18, agent="droq")
    make("cheetah", [1.0, 2.0], env="HalfCheetah-v5", agent="droq")
    (tmp_path / "empty").mkdir()
    assert said in refused("compare", *words)
