"""Checkpoints: whole or skipped, kept and dropped, refused with a reason."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orl import checkpoint
from orl.checkpoint import CheckpointError


def save(folder: Path, number: int, value: float | None = None, **manifest: object) -> Path:
    return checkpoint.save(folder, number, {"x": torch.full((1, 2), value or float(number))}, manifest)


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "new", 3, {"x": torch.eye(2).T[:, :1]}, {"agent": "A", "seeds": [1]})
    assert path == tmp_path / "new" / "checkpoint-3"
    tensors, manifest = checkpoint.load(tmp_path / "new")
    assert torch.equal(tensors["x"], torch.tensor([[1.0], [0.0]]))
    assert (manifest["agent"], manifest["seeds"], manifest["format"]) == ("A", [1], checkpoint.FORMAT)
    assert {"orl", "torch", "numpy", "gymnasium"} <= set(manifest["versions"])


def test_what_cannot_be_written_is_an_error_of_the_system_that_names_the_file(tmp_path: Path) -> None:
    """safetensors has an exception of its own for that."""
    with pytest.raises(OSError, match=r"nowhere/state\.safetensors: .*No such file"):
        checkpoint.write_tensors(tmp_path / "nowhere" / "state.safetensors", {"x": torch.zeros(1)})


def test_the_newest_are_kept_by_number_and_nothing_else_is_left(tmp_path: Path) -> None:
    for number in (5, 9, 10, 100):
        save(tmp_path, number)
    assert checkpoint.numbers(tmp_path) == [100, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-100"]
    assert len(checkpoint.numbers(tmp_path)) == checkpoint.NUM_CHECKPOINTS
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 100
    assert checkpoint.load(tmp_path, 10)[0]["x"][0, 0] == 10


def test_training_that_goes_on_from_a_folder_replaces_its_later_checkpoints(tmp_path: Path) -> None:
    """What was saved last is what is loaded, though the folder held checkpoints with more updates."""
    for number in (1_000, 2_000):
        save(tmp_path, number)
    checkpoint.save(tmp_path, 500, {"x": torch.full((1, 2), 500.0)}, {}, goes_on=True)
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 500
    assert checkpoint.numbers(tmp_path) == [500]


def test_saving_the_same_number_again_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 4, 1.0)
    save(tmp_path, 4, 2.0)
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 2.0


@pytest.mark.parametrize("file", ["state.safetensors", "manifest.json"])
def test_a_checkpoint_cut_short_is_skipped_for_the_older_one(tmp_path: Path, file: str) -> None:
    save(tmp_path, 1)
    cut_short(save(tmp_path, 2) / file)
    assert checkpoint.numbers(tmp_path) == [1]
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 1


def test_an_interrupted_write_leaves_the_older_checkpoint_and_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def interrupted(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    assert not (tmp_path / "checkpoint-2").exists()
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 1
    save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-3"]


def test_nothing_readable_names_the_folder_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: no checkpoint is there; give a folder"):
        checkpoint.load(tmp_path / "missing")
    cut_short(save(tmp_path / "run", 7) / "state.safetensors")
    with pytest.raises(CheckpointError, match=r"run: checkpoint-7 cannot be read \(cut short\?\)"):
        checkpoint.load(tmp_path / "run")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError, match="format 99, this version of orl reads format 4; install a newer orl"):
        checkpoint.load(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
    with pytest.raises(CheckpointError, match="reads format 4; train again, or load it with the version that wrote it"):
        checkpoint.load(tmp_path)


def test_folders_that_are_no_checkpoints_are_ignored(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoint-best").mkdir()
    assert checkpoint.numbers(tmp_path) == [1]


def save_population(folder: Path, number: int) -> None:
    for k, seed in enumerate((20, 3)):
        save(folder / f"seed-{seed}", number, float(seed), seeds=[seed], learner=k, population=2)


def test_a_population_is_put_together_in_its_own_order(tmp_path: Path) -> None:
    save_population(tmp_path, 6)
    tensors, manifest = checkpoint.load_population(tmp_path)
    assert tensors["x"][:, 0].tolist() == [20.0, 3.0]
    assert manifest["seeds"] == [20, 3]


def test_every_learner_keeps_its_own_rows_also_where_seeds_repeat(tmp_path: Path) -> None:
    rows = torch.arange(8.0).view(2, 4).T  # whose memory is in another order
    checkpoint.save_population(tmp_path, 1, {"x": rows}, {"agent": "A", "seeds": [20, 3, 100, 3]})
    names = ["seed-100", "seed-20", "seed-3-learner-1", "seed-3-learner-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    tensors, manifest = checkpoint.load_population(tmp_path)
    assert torch.equal(tensors["x"], rows)
    assert manifest["seeds"] == [20, 3, 100, 3]


def test_texts_of_different_lengths_end_in_spaces(tmp_path: Path) -> None:
    for k, text in enumerate((b"longest", b"one")):
        content = {"text": torch.tensor([list(text)], dtype=torch.uint8)}
        checkpoint.save(tmp_path / f"seed-{k}", 1, content, {"seeds": [k], "learner": k, "population": 2})
    texts = checkpoint.load_population(tmp_path)[0]["text"]
    assert [bytes(row.tolist()) for row in texts] == [b"longest", b"one    "]


def test_a_population_continues_from_the_newest_state_that_all_learners_have(tmp_path: Path) -> None:
    save_population(tmp_path, 1)
    save_population(tmp_path, 2)
    cut_short(tmp_path / "seed-3" / "checkpoint-2" / "state.safetensors")
    save(tmp_path / "seed-20", 3, 20.0, seeds=[20], learner=0, population=2)
    with pytest.raises(CheckpointError, match="no readable checkpoint in common"):
        checkpoint.load_population(tmp_path)  # learner 20 kept 2 and 3, learner 3 kept 1
    save_population(tmp_path, 4)
    save(tmp_path / "seed-20", 5, 55.0, seeds=[20], learner=0, population=2)
    tensors, _ = checkpoint.load_population(tmp_path)
    assert tensors["x"][:, 0].tolist() == [20.0, 3.0]  # of 4, though learner 20 has a 5


def test_a_population_with_a_learner_missing_is_refused(tmp_path: Path) -> None:
    save_population(tmp_path, 1)
    for path in sorted((tmp_path / "seed-3").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(CheckpointError, match="holds 1 of 2 learners"):
        checkpoint.load_population(tmp_path)
    (tmp_path / "seed-3").rmdir()
    with pytest.raises(CheckpointError, match="holds 1 of 2 learners"):
        checkpoint.load_population(tmp_path)


def test_a_folder_above_checkpoints_is_told_of_one(tmp_path: Path) -> None:
    """Such as those of `orl demo` and `orl zero-shot`, which hold many agents."""
    save_population(tmp_path / "seed-0" / "hyperzero", 1)
    with pytest.raises(CheckpointError, match=r"no checkpoint is there.*, such as .*seed-0/hyperzero/seed-20$"):
        checkpoint.load_population(tmp_path)


def test_a_learner_of_a_population_can_be_loaded_alone(tmp_path: Path) -> None:
    save_population(tmp_path, 1)
    tensors, manifest = checkpoint.load_population(tmp_path / "seed-3")
    assert tensors["x"].tolist() == [[3.0, 3.0]]
    assert manifest["seeds"] == [3]


def test_json_is_written_whole_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    checkpoint.write_json(path, {"a": [1, None]})
    assert checkpoint.read_json(path) == {"a": [1, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.write_json(path, {"a": float("nan")})
    assert checkpoint.read_json(path) == {"a": [1, None]}
    assert [each.name for each in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("content", [b"{", b"\xff\x00"])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json: cannot be read \(.*\); restore or delete it"):
        checkpoint.read_json(tmp_path / "config.json")


def test_a_folder_with_other_learners_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    def write(folder: str, agent: str, *seeds: int) -> None:
        tensors = {"x": torch.arange(float(len(seeds)))}
        checkpoint.save_population(tmp_path / folder, 1, tensors, {"agent": agent, "seeds": list(seeds)})

    write("one", "A", 0)
    write("three", "A", 0, 1, 2)
    for folder, agent, seeds, held in (
        ("one", "B", (0,), "holds A;"),
        ("one", "A", (0, 1), "holds A;"),
        ("three", "A", (0, 1), "holds A in seed-0, seed-1, seed-2;"),
        ("three", "A", (0,), "holds A in seed-0, seed-1, seed-2;"),
        ("three", "B", (0, 1, 2), "holds A in seed-0, seed-1, seed-2;"),
    ):
        with pytest.raises(CheckpointError, match=f"{held} save to another folder, or delete this one"):
            write(folder, agent, *seeds)
    assert checkpoint.load_population(tmp_path / "one")[1]["seeds"] == [0]
    assert checkpoint.load_population(tmp_path / "three")[1]["seeds"] == [0, 1, 2]
    write("three", "A", 0, 1, 2, 3)  # more of the same
    assert checkpoint.load_population(tmp_path / "three")[1]["seeds"] == [0, 1, 2, 3]


def test_a_replacement_that_is_interrupted_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same number: at any of the steps from the old one to the new one, one of them can be read."""
    rename = Path.rename
    for calls in range(5):
        save(tmp_path, 3, 1.0)
        left = calls

        def interrupted(self: Path, target: Path) -> Path:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return rename(self, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", interrupted)
            if calls < 3:
                with pytest.raises(KeyboardInterrupt):
                    save(tmp_path, 3, 2.0)
            else:  # two renames, and one before the old one is deleted
                save(tmp_path, 3, 2.0)
        assert checkpoint.is_written(tmp_path)
        assert checkpoint.numbers(tmp_path) == [3]
        assert checkpoint.load(tmp_path)[0]["x"][0, 0] == (1.0 if calls < 2 else 2.0)
    save(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-4"]


@pytest.mark.parametrize("content", [b"\xff\xfe\x80", b"[]", b"{", b""])
def test_a_damaged_manifest_gives_way_to_an_older_checkpoint(tmp_path: Path, content: bytes) -> None:
    save(tmp_path, 1)
    (save(tmp_path, 2) / "manifest.json").write_bytes(content)
    assert checkpoint.numbers(tmp_path) == [1]
    assert checkpoint.load(tmp_path)[0]["x"][0, 0] == 1


def entries(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def foreign(path: Path) -> None:
    """As Hugging Face's trainer writes them."""
    path.mkdir(parents=True)
    (path / "pytorch_model.bin").write_text("weeks of work")


def link(path: Path) -> None:
    path.symlink_to(save(path.parent.parent / "elsewhere", 9), target_is_directory=True)


@pytest.mark.parametrize(
    "make",
    [
        foreign,
        lambda path: path.write_text("a file"),
        lambda path: shutil.copytree(save(path.parent, 5), path),
        lambda path: save(path.parent, 9, identities=["another"]),
        lambda path: save(path.parent, 12),
        link,
        lambda path: (save(path.parent, 9) / "manifest.json").write_text("{"),
        lambda path: (save(path.parent, 9) / "manifest.json").unlink(),
    ],
)
def test_checkpoints_that_this_training_did_not_write_are_refused_by_name_and_left(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    """Of another program, a file, a copy under another number, another training's, a later one, damaged ones."""
    folder = tmp_path / "run"
    folder.mkdir()
    make(folder / "checkpoint-9")
    before = entries(tmp_path)
    with pytest.raises(CheckpointError, match=r"run.*checkpoint-(9|12).*(to|give) another folder"):
        save(folder, 10)
    assert entries(tmp_path) == before


def test_a_population_is_not_written_in_part(tmp_path: Path) -> None:
    about = {"agent": "A", "seeds": [0, 1]}
    checkpoint.save_population(tmp_path, 1, {"x": torch.eye(2)}, about)
    foreign(tmp_path / "seed-1" / "checkpoint-7")
    before = entries(tmp_path)
    with pytest.raises(CheckpointError, match=r"seed-1: checkpoint-7: not written by orl, or damaged"):
        checkpoint.save_population(tmp_path, 2, {"x": torch.eye(2)}, about)
    assert entries(tmp_path) == before


def test_everything_else_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / "checkpoint-best")
    (tmp_path / "checkpoint-notes.txt").write_text("notes")
    (tmp_path / ".checkpoint-of-mine").mkdir()
    (tmp_path / "checkpoint-1" / "notes.txt").write_text("notes")  # so that this one stays as it is
    (tmp_path / f".checkpoint-1.{os.getpid()}").mkdir()
    (tmp_path / ".checkpoint-2.1").mkdir()  # of a process that runs
    for number in (2, 3, 4):
        save(tmp_path, number)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".checkpoint-2.1",
        ".checkpoint-of-mine",
        "checkpoint-1",
        "checkpoint-3",
        "checkpoint-4",
        "checkpoint-best",
        "checkpoint-notes.txt",
    ]
    (tmp_path / "checkpoint-4" / "notes.txt").write_text("notes")
    with pytest.raises(CheckpointError, match=r"checkpoint-4: is to be replaced, and holds notes\.txt; move that away"):
        save(tmp_path, 4)


def test_what_is_damaged_is_never_deleted(tmp_path: Path) -> None:
    cut_short(save(tmp_path, 2) / "state.safetensors")
    cut_short(save(tmp_path, 7) / "state.safetensors")
    for number in (3, 4, 5):
        save(tmp_path, number)
    assert checkpoint.numbers(tmp_path) == [5, 4]
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{n}" for n in (2, 4, 5, 7)}
    save(tmp_path, 7)
    assert checkpoint.numbers(tmp_path) == [7, 5]


@pytest.mark.parametrize("file", ["state.safetensors", "manifest.json"])
def test_what_cannot_be_opened_is_not_taken_for_damaged(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    path, opened = save(tmp_path, 2) / file, Path.open

    def refused(self: Path, *arguments: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *arguments)

    monkeypatch.setattr(Path, "open", refused)
    for read in (checkpoint.numbers, checkpoint.load, checkpoint.load_population, lambda folder: save(folder, 3)):
        with pytest.raises(CheckpointError, match=rf"{file}: cannot be opened \(Permission denied\)"):
            read(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-1", "checkpoint-2"}


def test_all_files_of_a_checkpoint_are_for_the_same_people(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    modes = {file.stat().st_mode for file in save(tmp_path, 1).iterdir()}
    assert modes == {(tmp_path / "other").stat().st_mode}


@pytest.mark.parametrize("left", ["manifest.json", "state.safetensors"])
def test_a_deletion_that_is_interrupted_leaves_nothing_in_the_way(
    tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        save(tmp_path, number)

    def interrupted(path: Path, **_: Any) -> None:
        for file in path.iterdir() if path.exists() else ():
            if file.name != left:
                file.unlink()
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
    assert checkpoint.numbers(tmp_path) == [3, 2]
    save(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-4"]
