"""The layout that DESIGN asks for: mapped rooms, links for static tools, one top-level name in the wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agents", "datasets", "envs", "scripts")
MEGABYTE = 2**20
BANNED = {"pickle", "cloudpickle", "dill", "joblib", "done", "dones"}  # words of names
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())


def repository_files() -> list[Path]:
    """Files of the repository, committed or about to be, relative to its root; links are files."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = {Path(name) for name in listed.split("\0") if name}
    return sorted(path for path in paths if os.path.lexists(ROOT / path))


def sources() -> list[Path]:
    """Python files of the core and the rooms."""
    folders = [ROOT / "orl", *(ROOT / room for room in ROOMS)]
    return sorted(path for folder in folders for path in folder.rglob("*.py") if not inside_link(path))


def inside_link(path: Path) -> bool:
    """Whether a path goes through one of the links in `orl/`."""
    return path.relative_to(ROOT).parts[0] == "orl" and path.relative_to(ROOT).parts[1] in ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_is_a_folder_with_a_relative_link_in_the_core(room: str) -> None:
    link = ROOT / "orl" / room
    if not link.is_symlink():
        pytest.skip("a checkout without symbolic links; they serve static tools only")
    assert os.readlink(link) == f"../{room}"
    assert not (ROOT / room).is_symlink()
    assert link.resolve() == ROOT / room


def test_pyproject_lists_and_maps_every_package() -> None:
    found = {"orl"} | {
        ".".join(("orl", *path.parent.relative_to(ROOT).parts))
        for room in ROOMS
        for path in (ROOT / room).rglob("__init__.py")
    }
    settings = SETTINGS["tool"]["setuptools"]
    assert set(settings["packages"]) == found
    assert settings["package-dir"] == {"orl": "orl"} | {f"orl.{room}": room for room in ROOMS}


def test_every_folder_of_a_room_with_code_is_a_package() -> None:
    assert {path.parent for path in sources() if not (path.parent / "__init__.py").exists()} == set()


def test_tests_are_no_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("room", ROOMS)
def test_elsewhere_the_bare_name_of_a_room_is_not_ours(room: str, tmp_path: Path) -> None:
    code = f"import importlib.util as u; s = u.find_spec({room!r}); print(s.origin if s else '')"
    environment = {**os.environ, "PYTHONPATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert not found or not Path(found).resolve().is_relative_to(ROOT / room)


def test_the_package_that_is_tested_is_this_one() -> None:
    spec = importlib.util.find_spec("orl.agents.iql")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).resolve() == ROOT / "agents" / "iql.py"


def test_versions_agree() -> None:
    import orl

    assert orl.__version__ == SETTINGS["project"]["version"] == importlib.metadata.version("orl")
    assert f"[{orl.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_a_script_in_the_folder_of_a_clone_gets_the_package(tmp_path: Path) -> None:
    """A clone named `orl` beside it would be a package too, of Python's kind without `__init__.py`."""
    if not (ROOT / ".link" / "orl").exists():
        pytest.skip("an environment that `make install` has not made")
    (tmp_path / "orl").symlink_to(ROOT)
    (tmp_path / "script.py").write_text(
        "import orl, orl.agents, orl.checkpoint\nprint(orl.checkpoint.versions()['orl'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    command = [sys.executable, "script.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert ended.stderr == ""
    assert ended.stdout.strip() == SETTINGS["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository's files."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in repository_files():
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / "source" / path, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), "."]
    built = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_one_top_level_name_and_every_file_of_the_rooms(wheel: Path) -> None:
    files = repository_files()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (archive.read(n).decode() for n in names if n.endswith(".dist-info/entry_points.txt"))
    information = f"orl-{SETTINGS['project']['version']}.dist-info"
    assert {name.split("/")[0] for name in names} == {"orl", information}
    held = {name for name in names if name.startswith("orl/")}
    expected = {path.as_posix() for path in files if path.parts[0] == "orl" and not (ROOT / path).is_symlink()}
    expected |= {f"orl/{path.as_posix()}" for path in files if path.parts[0] in ROOMS}
    assert held == expected
    assert "orl/py.typed" in held
    assert f"{information}/licenses/LICENSE" in names
    assert "orl = orl.scripts.main:main" in entry_points


def test_the_wheel_runs_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """With the dependencies of this environment, whose own `orl` it does not see."""
    venv.create(tmp_path / "venv")
    python, command = tmp_path / "venv" / "bin" / "python", tmp_path / "venv" / "bin" / "orl"
    quiet = ["--quiet", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", *quiet, "--no-deps", "--no-index"]
    run([*install, str(wheel)], tmp_path)
    packages = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    where = run([str(python), "-c", "import orl.agents; print(orl.agents.__file__)"], tmp_path).strip()
    assert Path(where) == Path(packages, "orl", "agents", "__init__.py")
    assert "--second-dataset" in run([str(command), "demo", "--help"], tmp_path)
    small = ("--hidden-sizes", "8", "--batch-size", "8", "--learning-starts", "4", "--target-entropy", "-1")
    few = ("--eval-episodes", "1", "--bias-episodes", "0", "--out", "run")
    run([str(command), "train", "sac", "--env", "Pendulum-v1", "--steps", "8", *small, *few], tmp_path)
    assert (tmp_path / "run" / "results.json").exists()


def run(command: list[str], folder: Path) -> str:
    """What a command prints that must end well, without the paths of this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_no_file_of_the_repository_is_large() -> None:
    sizes = {path.as_posix(): (ROOT / path).lstat().st_size for path in repository_files()}
    assert {name: size for name, size in sizes.items() if size > MEGABYTE} == {}


def test_constraints_are_names_and_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)] == []
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = SETTINGS["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", each)[0]).lower() for each in needed}
    assert names - pinned == set()
    assert "orl" not in pinned


def test_no_path_of_a_machine_and_no_package_index_is_written_down() -> None:
    private = re.compile(r"(?<![\w.>])/(?:home|root|work|Users)/\w|py" + r"pi\.org|index-u" + "rl")
    found = []
    for path in repository_files():
        if not (ROOT / path).is_symlink():
            text = (ROOT / path).read_bytes()
            if b"\0" not in text and private.search(text.decode()):
                found.append(path.as_posix())
    assert found == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_source_unpickles_nothing_and_calls_nothing_done(path: Path) -> None:
    found = [
        f"{path.name}:{getattr(node, 'lineno', 0)}: {name}"
        for node in ast.walk(ast.parse(path.read_text()))
        for name in names_of(node)
        if name == "torch.load" or set(re.split(r"[._]", name)) & BANNED
    ]
    assert found == []


def names_of(node: ast.AST) -> list[str]:
    """Names that a node introduces or uses; `allow_pickle=False` is none."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return [f"{owner}.{name}"]
        case ast.Attribute(attr=name):
            return [name]
        case ast.keyword(arg="allow_pickle", value=ast.Constant(value=False)) | ast.keyword(arg=None):
            return []
        case ast.keyword(arg=str(name)):
            return [name]
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, names=aliases):
            return [f"{module}.{alias.name}" for alias in aliases]
    return []
