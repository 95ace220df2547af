"""A data set's card: `README.md` with its numbers, and figures of its returns, actions and coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from orl.arrays import Array, Float64Array
from orl.dataset import Dataset
from orl.datasets.checking import Report, check
from orl.datasets.references import REFERENCES, normalized_score

Facts = Mapping[str, Any]
_POINTS = 50_000  # at most this many rows are drawn and decomposed
_COLUMNS = 4  # panels of actions side by side
_PANELS = 24  # at most this many action dimensions are drawn
_COLOUR = "#2a6f97"
_PIECES = "episodes are cut short of the environment's time limit: their returns are not comparable, and give no score"


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
    folder, facts = Path(folder), facts or {}
    folder.mkdir(parents=True, exist_ok=True)
    report = check(data)
    drawn = {
        "Returns and lengths of the finished episodes": _draw_returns(data, folder / "returns.png"),
        "Actions, as a share of their bounds": _draw_actions(data, folder / "actions.png"),
        "Coverage: observations on their two principal axes": _draw_coverage(data, folder / "coverage.png"),
    }
    shown = {caption: path for caption, path in drawn.items() if path is not None} | dict(pictures or {})
    lines = [f"# {data.name}", ""]
    if facts.get("description"):
        lines += [str(facts["description"]), ""]
    lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in _rows(data, report, facts)), ""]
    if remarks := [*report.remarks, *([_PIECES] if _is_in_pieces(data) else [])]:
        lines += ["## Worth knowing", "", *(f"* {remark}" for remark in remarks), ""]
    lines += ["## Figures", ""]
    for caption, path in shown.items():
        lines += [f"![{caption}]({path.name})", "", f"*{caption}.*", ""]
    target = folder / "README.md"
    target.write_text("\n".join(lines), encoding="utf-8")
    return target


def _rows(data: Dataset, report: Report, facts: Facts) -> list[tuple[str, str]]:
    returns = finished_returns(data)
    references = REFERENCES.get(data.environment_id or "")
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
        rows.append(("contexts", f"{number:,}: " + ", ".join(_range(*variable) for variable in ranges)))
    if data.values is not None:
        rows.append(("values of a critic", f"{data.values.mean():.1f} ± {data.values.std():.1f}"))
    if len(returns):
        spread = f"{returns.mean():.1f} ± {returns.std():.1f} ({returns.min():.1f} to {returns.max():.1f})"
        rows.append(("return, mean ± standard deviation (range)", spread))
        if references is not None and not _is_in_pieces(data):
            scores = normalized_score(str(data.environment_id), returns)
            rows.append(("normalized score, mean ± standard deviation", f"{scores.mean():.1f} ± {scores.std():.1f}"))
    if references is not None:
        rows.append(("reference returns (score 0, score 100)", f"{references.random:.1f}, {references.expert:.1f}"))
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


def _finished(data: Dataset) -> list[slice]:
    """Rows of the ended episodes; none where rows are scattered."""
    ends = data.terminated | data.truncated
    return [rows for rows in data.episode_slices if ends[rows.stop - 1]] if data.whole_episodes else []


def finished_returns(data: Dataset) -> Float64Array:
    """Undiscounted returns of the ended episodes whose rewards are all labelled; none where rows are scattered."""
    returns: Float64Array = np.array([data.rewards[rows].sum(dtype=np.float64) for rows in _finished(data)])
    return returns[np.isfinite(returns)]


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


def _draw_returns(data: Dataset, path: Path) -> Path | None:
    """Histograms of the returns and of the lengths of the finished episodes."""
    lengths = np.array([rows.stop - rows.start for rows in _finished(data)])
    panels = [("return", finished_returns(data)), ("length (decisions)", lengths)]
    panels = [(label, values) for label, values in panels if len(values)]
    if not panels:
        return None
    figure, axes = _panels(len(panels), 2)
    for axis, (label, values) in zip(axes, panels, strict=True):
        _histogram(axis, values)
        axis.set(xlabel=label, ylabel="episodes")
    return _save(figure, path)


def _draw_actions(data: Dataset, path: Path) -> Path:
    """A histogram of each action dimension, in [-1, 1]."""
    shown = min(data.action_size, _PANELS)
    figure, axes = _panels(shown, _COLUMNS)
    for i, axis in enumerate(axes):
        share = np.full(len(data), 100.0 / len(data))
        axis.hist(data.actions[:, i], bins=np.linspace(-1.0, 1.0, 42), weights=share, color=_COLOUR)
        axis.set(xlim=(-1.05, 1.05), xlabel=f"action {i}", ylabel="rows (%)")
    return _save(figure, path)


def _draw_coverage(data: Dataset, path: Path) -> Path | None:
    """How often each region of the two principal axes of the standardized observations was visited."""
    evenly_spaced = np.unique(np.linspace(0, len(data) - 1, min(len(data), _POINTS)).astype(np.int64))
    observations = data.observations[evenly_spaced].astype(np.float64)
    spread = observations.std(axis=0)
    varying = spread > 1e-6
    if varying.sum() < 2:
        return None
    standard = (observations[:, varying] - observations[:, varying].mean(axis=0)) / spread[varying]
    _, singular, axes_of = np.linalg.svd(standard, full_matrices=False)
    explained = singular**2 / (singular**2).sum()
    projected = standard @ axes_of[:2].T
    low, high = np.percentile(projected, [0.1, 99.9], axis=0)
    inside = ((projected >= low) & (projected <= high)).all(axis=1)
    if not inside.any() or (high <= low).any():
        inside = np.ones(len(projected), np.bool_)
    figure, axes = _panels(1, 1, size=(5.6, 4.4))
    image = axes[0].hexbin(*projected[inside].T, gridsize=45, bins="log", mincnt=1, cmap="viridis", linewidths=0.1)
    figure.colorbar(image, ax=axes[0], label="rows (log scale)")
    first, second = f"first axis ({explained[0]:.0%} of the variance)", f"second axis ({explained[1]:.0%})"
    axes[0].set(xlabel=first, ylabel=second)
    return _save(figure, path)


def _histogram(axis: Any, values: Array) -> None:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(1.0, abs(low)):  # one value: a single bar rather than bins of nothing
        axis.bar([low], [len(values)], width=max(1.0, 0.02 * abs(low)), color=_COLOUR)
        axis.set_xlim(low - max(5.0, 0.2 * abs(low)), low + max(5.0, 0.2 * abs(low)))
    else:
        axis.hist(values, bins=int(np.clip(np.sqrt(len(values)) * 2, 10, 60)), color=_COLOUR)
    axis.yaxis.get_major_locator().set_params(integer=True)


def _panels(count: int, columns: int, size: tuple[float, float] = (3.4, 2.8)) -> tuple[Any, list[Any]]:
    """A figure without a window, and `count` axes in rows of at most `columns`."""
    from matplotlib.figure import Figure  # slow to import, and needed for cards alone

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params(axis="x", nbins=5)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path
