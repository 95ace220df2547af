"""The code blocks of README and docs run, in order, one namespace per file; links lead somewhere; the site builds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orl.scripts import main
from orl.scripts.data import racing as racing_datasets

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.relative_to(ROOT).parts),
    ]
)
RESULTS = sorted((ROOT / "results").rglob("*.md"))
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name(path: Path) -> str:
    """A page, relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Code blocks of one language, each preceded by empty lines, so that a traceback shows the page's line numbers."""
    text = path.read_text()
    return [
        "\n" * (text[: match.start(2)].count("\n")) + match[2] for match in FENCE.finditer(text) if match[1] == language
    ]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a data set store of its own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=name)
def test_python_blocks_run(path: Path, workplace: Path) -> None:
    code = blocks(path, "python")
    for needed in re.findall(r"# .*orl dataset make (orl/racing/[\w-]+)", "".join(code)):
        racing_datasets.make(needed)
    namespace = {"__name__": "__main__"}
    for block in code:
        exec(compile(block, str(path), "exec"), namespace)


def commands() -> list[str]:
    """Every `orl VERB OPTIONS` that a page tells the reader to type, without its comment."""
    found = set()
    for path in PAGES:
        shell = "\n".join(blocks(path, "sh") + blocks(path, "console"))
        inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text()))
        for line in [*shell.splitlines(), *inline]:
            command = line.removeprefix("$ ").split("  #")[0].strip()
            if re.match(r"orl [a-z-]+ \S", command):
                found.add(command)
    return sorted(found)


@pytest.mark.parametrize("command", commands())
def test_commands_in_the_pages_are_understood(command: str) -> None:
    words = command.split()[1:]
    assert words[0] in main.VERBS
    main.parse(words)


@pytest.mark.parametrize("path", [*PAGES, *RESULTS], ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    text = FENCE.sub("", path.read_text())
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert missing == []


def test_the_examples_in_the_readme_are_ten_lines() -> None:
    examples = blocks(ROOT / "README.md", "python")
    assert len(examples) == 2
    for example in examples:
        assert len([line for line in example.splitlines() if line.strip()]) <= 10


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1_200


def test_the_page_of_the_demo_has_markers_around_its_table() -> None:
    text = (ROOT / "docs" / "results" / "demo.md").read_text()
    assert 0 < text.index("<!-- demo results -->") < text.index("<!-- end demo results -->")


def test_the_table_of_the_demo_is_that_of_its_results() -> None:
    text = (ROOT / "docs" / "results" / "demo.md").read_text()
    table = text[text.index("<!-- demo results -->") : text.index("<!-- end demo results -->")]
    rows = json.loads((ROOT / "results" / "demo" / "results.json").read_text())["rows"]
    for row in rows:
        low, high = row["interval"]
        cells = [row["dataset"].rpartition("/")[2], row["agent"], row["rewards"], f"{row['normalized_score']:.1f}"]
        assert f"| {' | '.join(cells)} | {low:.1f} to {high:.1f} | {row['laps']:.1f} |" in table


@pytest.mark.slow
def test_the_site_is_built_without_warnings_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("furo", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"})
    assert built.returncode == 0, built.stderr
    assert len(list(tmp_path.rglob("*.html"))) > len(PAGES) - 5
    loaded = re.compile(r"<(?:script|img|iframe)[^>]* src=\"(?:https?:)?//|<link[^>]* href=\"(?:https?:)?//")
    assert [page.name for page in tmp_path.rglob("*.html") if loaded.search(page.read_text())] == []
