"""A worker's folder for temporary files: its own, and gone with it."""

import tempfile
from pathlib import Path

import pytest

from workers.scratch import clear_scratch, open_scratch


def test_temporary_files_go_into_a_folder_that_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder, shared = open_scratch()
    assert (Path(folder).parent, shared) == (tmp_path, str(tmp_path))
    with tempfile.NamedTemporaryFile(delete=False) as left:
        assert Path(left.name).parent == Path(folder)
    clear_scratch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "theirs").touch()
    clear_scratch()
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
