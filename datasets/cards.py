"""A data set's card: `README.md` with its numbers, and figures of its returns, actions and coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from orl.dataset import Dataset
from orl.datasets import figures
from orl.datasets.checking import Report, check
from orl.datasets.references import REFERENCES, normalized_score

Facts = Mapping[str, Any]
PIECES = "episodes are cut short of the environment's time limit: their returns are not comparable, and give no score"


def card(
    data: Dataset, folder: str | Path, *, facts: Facts | None = None, pictures: Mapping[str, Path] | None = None
) -> Path:
    """Write a card.

    Args:
        data: to describe.
        folder: made if it is not there; `README.md` and the PNG files in it are replaced.
        facts: of Minari's metadata, those that apply: `description`, `algorithm_name`, `author`, `requirements`,
            `ref_min_score`, `ref_max_score`, `contexts`.
        pictures: more figures, PNG files in `folder`, by caption.

    Returns:
        The path of the card.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = check(data)
    drawn = {
        "Returns and lengths of the finished episodes": figures.draw_returns(data, folder / "returns.png"),
        "Actions, as a share of their bounds": figures.draw_actions(data, folder / "actions.png"),
        "Coverage: observations on their two principal axes": figures.draw_coverage(data, folder / "coverage.png"),
    }
    shown = {caption: path for caption, path in drawn.items() if path is not None} | dict(pictures or {})
    lines = [f"# {data.name}", ""]
    if facts and facts.get("description"):
        lines += [str(facts["description"]), ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in _rows(data, report, facts or {})), ""]
    remarks = [*report.remarks, *([PIECES] if _is_in_pieces(data) else [])]
    if remarks:
        lines += ["## Worth knowing", "", *(f"* {remark}" for remark in remarks), ""]
    lines += ["## Figures", ""]
    for caption, path in shown.items():
        lines += [f"![{caption}]({path.name})", "", f"*{caption}.*", ""]
    target = folder / "README.md"
    target.write_text("\n".join(lines), encoding="utf-8")
    return target


def _rows(data: Dataset, report: Report, facts: Facts) -> list[tuple[str, str]]:
    returns = finished_returns(data)
    is_scored = data.environment_id in REFERENCES and not _is_in_pieces(data)
    rows = [
        ("transitions", f"{report.transitions:,}"),
        ("episodes", "undefined, rows are scattered" if report.episodes is None else f"{report.episodes:,}"),
        ("observation features", str(data.observation_size)),
        ("actions", f"{data.action_size}, in {_bounds(data)}"),
        ("environment", data.environment_id or "not stated"),
    ]
    if data.contexts is not None:
        number = len(np.unique(data.contexts, axis=0))
        variables = facts.get("contexts") or [{}] * data.contexts.shape[1]
        ranges = zip(variables, data.contexts.min(axis=0), data.contexts.max(axis=0), strict=True)
        rows.append(("contexts", f"{number:,}: " + ", ".join(_range(*each) for each in ranges)))
    if data.values is not None:
        rows.append(("values of a critic", f"{data.values.mean():.1f} ± {data.values.std():.1f}"))
    if len(returns):
        spread = f"{returns.mean():.1f} ± {returns.std():.1f} ({returns.min():.1f} to {returns.max():.1f})"
        rows.append(("return, mean ± standard deviation (range)", spread))
        if is_scored:
            assert data.environment_id is not None
            scores = normalized_score(data.environment_id, returns)
            rows.append(("normalized score, mean ± standard deviation", f"{scores.mean():.1f} ± {scores.std():.1f}"))
    if data.environment_id is not None and data.environment_id in REFERENCES:
        low, high = REFERENCES[data.environment_id]
        rows.append(("reference returns (score 0, score 100)", f"{low:.1f}, {high:.1f}"))
    rows += [
        ("episodes terminated, truncated", f"{report.terminated:.1%}, {report.truncated:.1%}"),
        ("rewards labelled", f"{report.labelled:.1%}"),
        ("rows that repeat an earlier row", f"{report.duplicates:.2%}"),
        ("action components at a bound", f"{report.saturated:.1%}"),
    ]
    for key, title in (("algorithm_name", "actions chosen by"), ("author", "author"), ("requirements", "made with")):
        if facts.get(key):
            value = facts[key]
            rows.append((title, value if isinstance(value, str) else ", ".join(sorted(value))))
    return rows


def finished_returns(data: Dataset) -> NDArray[np.float64]:
    """Undiscounted returns of the ended episodes whose rewards are all known; none where rows are scattered."""
    if not data.whole_episodes:
        return np.zeros(0)
    ended = np.array([data.terminated[rows.stop - 1] or data.truncated[rows.stop - 1] for rows in data.episode_slices])
    returns = data.episode_returns()
    return returns[ended & np.isfinite(returns)]


def _is_in_pieces(data: Dataset) -> bool:
    """Whether most truncated episodes stop before the time limit, by more than the row that D4RL files lose."""
    if data.environment_id not in gymnasium.registry or not data.whole_episodes:
        return False
    limit = gymnasium.registry[data.environment_id].max_episode_steps
    lengths = [rows.stop - rows.start for rows in data.episode_slices if data.truncated[rows.stop - 1]]
    return limit is not None and len(lengths) > 0 and float(np.median(lengths)) < limit - 1


def _range(variable: Facts, low: float, high: float) -> str:
    """A variable of the contexts and where its values lie."""
    return f"{variable.get('name', 'not named')} {low:.4g} to {high:.4g} {variable.get('unit', '')}".rstrip()


def _bounds(data: Dataset) -> str:
    pairs = {(float(low), float(high)) for low, high in zip(data.action_low, data.action_high, strict=True)}
    return ", ".join(f"[{low:g}, {high:g}]" for low, high in sorted(pairs))
