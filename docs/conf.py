"""Settings of the site, and what is made from the code while it is built: options of the verbs, and hyperparameters."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import re
from pathlib import Path
from typing import Any
from unittest import mock

from sphinx.application import Sphinx
from sphinx.util.inspect import TypeAliasForwardRef

import orl
from orl import agents
from orl.agent import Agent
from orl.scripts import main
from orl.scripts.running import registry

ROOT = Path(__file__).resolve().parents[1]

project = "orl"
author = "the orl contributors"
version = release = orl.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
smartquotes = False
toc_object_entries = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

myst_heading_anchors = 4
myst_links_external_new_tab = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
autodoc_type_aliases = {
    name: name
    for name in ("ArrayLike", "Array", "BoolArray", "IntArray", "Float32Array", "Float64Array", "Source", "Environment")
}
autodoc_default_options = {"members": True}
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"orl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"top_of_page_buttons": []}


TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]  # as in `ArrayLike | None`


def setup(app: Sphinx) -> None:
    """Register what is below."""
    app.connect("source-read", front_page)
    app.connect("source-read", generated)
    app.connect("autodoc-process-docstring", plain)
    app.connect("autodoc-process-docstring", hyperparameters)
    app.connect("autodoc-process-signature", without_defaults)
    app.connect("autodoc-skip-member", skip)


def front_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Put README before the table of contents of the first page, with links as seen from this folder."""
    if page == "index":
        readme = (ROOT / "README.md").read_text().replace("](docs/", "](")
        for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
            readme = readme.replace(f"]({name}", f"]({name.lower()}")
        source[0] = readme.replace("](LICENSE", "](../LICENSE").replace("](CITATION", "](../CITATION") + source[0]


def generated(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace comments such as `<!-- options: VERB -->` by what the code says; break no line in `95 %` or `2 to 3`."""
    texts = re.split(r"(^```.*?^```)", source[0], flags=re.MULTILINE | re.DOTALL)
    together = re.compile(r"(?<=\d) (?=%)|(?<=\d) (?=to -?\d)|(?<=\d to) (?=-?\d)")
    texts[::2] = [together.sub("\N{NO-BREAK SPACE}", text) for text in texts[::2]]
    source[0] = "".join(texts)
    source[0] = re.sub(r"<!-- options: (.*?) -->", lambda match: options(match[1].split()), source[0])
    source[0] = source[0].replace("<!-- presets -->", presets()).replace("<!-- agents -->", sections_of_agents())


def options(words: list[str], level: int = 2) -> str:
    """A verb's options as tables, one section for each of its agents or subcommands, from what its help prints."""
    if words[0] in main.OF_AN_AGENT:
        return options_of_agents(words[0], level + 1)
    summary, panels = panels_of_help([*words, "--help"])
    parts = [f"{'#' * level} orl {' '.join(words)}", summary] if level > 2 else []
    for title, lines in panels:
        if title == "subcommands":
            names = [match[1] for line in lines if (match := re.match(r"\s*• ([\w-]+)", line))]
            parts += [options([*words, name], level + 1) for name in names]
        else:
            parts += [heading(title, lines), table(["option", "meaning", "default"], rows_of_options(title, lines))]
    return "\n\n".join(part for part in parts if part)


def options_of_agents(verb: str, level: int) -> str:
    """Options of a verb for each agent: hyperparameters once for each configuration, and else what differs."""
    parts: list[str] = []
    first: list[list[str]] = []
    shown: dict[type, tuple[str, list[list[str]]]] = {}  # an agent with that configuration, and its hyperparameters
    for name in sorted(main.agents_of(verb), key="sac".__ne__):  # the class before its presets
        summary, panels = panels_of_help([verb, name, "--help-verbose"])
        rows = {title: rows_of_options(title, lines) for title, lines in panels}
        parts += [f"{'#' * level} orl {verb} {name}", summary.split("\n\n")[0]]
        own = rows["config options"]
        model, before = shown.setdefault(type(registry.presets()[name].config), (name, own))
        if not first:
            first = [row for panel in rows.values() for row in panel]
            for title, lines in panels:
                parts += [heading(title, lines), table(["option", "meaning", "default"], rows[title])]
            continue
        others = [
            row for title, panel in rows.items() if title != "config options" for row in panel if row not in first
        ]
        if model == name:
            parts += ["**Hyperparameters**", table(["option", "meaning", "default"], own)]
        else:
            parts.append(f"Hyperparameters are those of `orl {verb} {model}`, with these defaults:")
            parts.append(table(["option", "default"], [[row[0], row[2]] for row in own if row not in before]))
        parts.append(f"The other options are those of `orl {verb} sac`" + (", but for these:" if others else "."))
        parts.append(table(["option", "meaning", "default"], others))
    return "\n\n".join(part for part in parts if part)


def panels_of_help(words: list[str]) -> tuple[str, list[tuple[str, list[str]]]]:
    """What a verb prints about itself: its summary, and the title and the lines of each panel."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # in which tyro draws its frames
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "119"}),
        contextlib.redirect_stdout(printed),
        contextlib.suppress(SystemExit),
    ):
        main.main(words)
    printed.seek(0)
    text, *panels = re.split(r"^╭─ (.*?) ─+╮$", printed.read(), flags=re.MULTILINE)
    inside = [[line.strip("│").rstrip()[1:] for line in p.splitlines() if line.startswith("│")] for p in panels[1::2]]
    return text.partition("\n\n")[2].strip(), list(zip([title.strip() for title in panels[::2]], inside, strict=True))


def is_option(title: str, line: str) -> bool:
    """Whether a line of a panel begins an option, and does not go on with one."""
    return bool(re.match(r"--?[a-zA-Z]|[A-Z[]", line)) and (line[0] == "-" or not title.endswith("options"))


def heading(title: str, lines: list[str]) -> str:
    """What a panel says before its first option, or its title."""
    told = list(itertools.takewhile(lambda line: not is_option(title, line), lines))
    words = " ".join(line.strip() for line in told if line.strip("─- "))
    return f"**{(words or title.capitalize()).rstrip('.')}**" if any(is_option(title, line) for line in lines) else ""


def rows_of_options(title: str, lines: list[str]) -> list[list[str]]:
    """Option, meaning and default of each option in a panel."""
    entries: list[list[str]] = []
    for line in lines:
        if is_option(title, line):
            entries.append(re.split(r"\s{2,}", line, maxsplit=1))
        elif entries:
            entries[-1] = [entries[-1][0], " ".join([*entries[-1][1:], line.strip()])]
    rows = []
    for names, *texts in entries:
        text = "".join(texts)
        default = re.search(r"\s*\((?:default: (.*)|(required))\)$", text)
        meaning = text[: default.start()] if default else text
        value = (default[1] or default[2]) if default else ""
        if choices := re.fullmatch(r"(--\S+) (\[?)\{([^}]{20,})\}.*", names):  # too wide for a column
            names = choices[1]
            values = ", ".join(code(value) for value in choices[3].split(","))
            meaning = f"{meaning.rstrip('.')}. {'Any' if choices[2] else 'One'} of {values}."
        if not names.startswith(("-h,", "-H,")):
            spans = ", ".join(code(name) for name in names.split(", "))
            rows.append([spans, escape(meaning), value if value == "required" else code(value)])
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    if not rows:
        return ""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def code(text: str) -> str:
    """Text in a table's cell as code."""
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def escape(text: str) -> str:
    """Text in a table's cell; what is code in it stays code."""
    return re.sub(r"([*<|])", r"\\\1", text)


def presets() -> str:
    """Presets that `orl.agents` has, and where they part from the defaults of their class."""
    rows = []
    for name, preset in vars(agents).items():
        if name.endswith("_PRESET"):
            kind = type(preset)
            changed = {
                field.name: getattr(preset, field.name)
                for field in dataclasses.fields(kind)
                if getattr(preset, field.name) != getattr(kind(), field.name)
            }
            text = ", ".join(code(f"{key}={value!r}") for key, value in changed.items())
            rows.append([code(name), code(kind.__name__), text or "the defaults"])
    return table(["preset", "configuration", "what differs from its defaults"], rows)


def sections_of_agents() -> str:
    """A section for each class of `orl.agents`: what its file says, the class, and its configuration."""
    kinds = [getattr(agents, name) for name in agents.__all__]
    kinds = [kind for kind in kinds if inspect.isclass(kind) and not is_configuration(kind)]
    kinds.sort(key=lambda kind: (kind.__module__, len(kind.__mro__)))  # a class before its presets
    parts, told = [], set()
    for kind in kinds:
        directives = (
            [] if kind.__module__ in told else [f".. automodule:: {kind.__module__}\n   :no-members:\n   :no-index:"]
        )
        told.add(kind.__module__)
        directives.append(f".. autoclass:: orl.agents.{kind.__name__}")
        config = getattr(kind, "Config", None)
        if config and config not in told:
            told.add(config)
            directives.append(f".. autoclass:: orl.agents.{config.__name__}\n   :no-members:")
        parts.append(f"## {kind.__name__}\n\n```{{eval-rst}}\n" + "\n\n".join(directives) + "\n```")
    return "\n\n".join(parts)


def skip(app: Sphinx, what: str, name: str, member: Any, skipped: bool, settings: Any) -> bool | None:
    """Leave out what an agent defines for the base class: its file explains it."""
    module = str(getattr(member, "__module__", ""))
    of_the_base = hasattr(Agent, name) or name == "Config" or name.endswith(("_gradients", "_noise_specs"))
    if module.startswith("orl.agents") and of_the_base:
        return True
    return None


def is_configuration(kind: Any) -> bool:
    """Whether something is a dataclass whose fields are explained by comments."""
    return inspect.isclass(kind) and dataclasses.is_dataclass(kind)


def plain(app: Sphinx, what: str, name: str, kind: Any, settings: Any, lines: list[str]) -> None:
    """Let | be the bars of an absolute value, and let a list begin after a blank line."""
    for i in range(len(lines) - 1, -1, -1):
        parts = lines[i].split("`")
        lines[i] = "`".join([part.replace("|", r"\|") if k % 2 == 0 else part for k, part in enumerate(parts)])
        if lines[i].startswith("* ") and i and lines[i - 1].strip() and not lines[i - 1].startswith(("* ", "  ")):
            lines.insert(i, "")


def hyperparameters(app: Sphinx, what: str, name: str, kind: Any, settings: Any, lines: list[str]) -> None:
    """Add the fields of a dataclass with their defaults and comments to its docstring."""
    if what != "class" or not is_configuration(kind):
        return
    comments: dict[str, str] = {}
    for ancestor in reversed(kind.__mro__[:-1]):
        for match in re.finditer(r"^    (\w+): [^#\n]*?(?:#: ?|# ?)(.+)$", inspect.getsource(ancestor), re.MULTILINE):
            comments[match[1]] = match[2]
    if not comments:
        return
    lines += ["", ".. list-table::", "   :header-rows: 1", "", "   * - field", "     - default", "     - meaning"]
    for field in dataclasses.fields(kind):
        has_default = field.default is not dataclasses.MISSING
        meaning = re.sub(r"([*|\\]|(?<=\w)_(?=\W|$))", r"\\\1", comments.get(field.name, ""))
        lines += [f"   * - `{field.name}`", f"     - {f'`{field.default!r}`' if has_default else ''}"]
        lines.append(f"     - {meaning}")


def without_defaults(
    app: Sphinx, what: str, name: str, kind: Any, settings: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Leave out a configuration's signature: its fields are a table."""
    if what == "class" and is_configuration(kind) and name.endswith("Config"):
        return "", None
    return signature, returned
