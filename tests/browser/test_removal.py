"""The inspector is a folder that can be deleted."""

import shutil
from pathlib import Path

from conftest import Install
from project import VARIANTS, bake


def test_the_inspector_can_be_removed_as_the_readme_says(install: Install, tmp_path: Path) -> None:
    project = bake(tmp_path)
    project.share_environment(install(VARIANTS[0]).environment)
    shutil.rmtree(project.path / "app/inspector")
    (project.path / "tests/engine/test_inspector.py").unlink()
    lines = project.read("app/main.py").splitlines(keepends=True)
    kept = [line for line in lines if "inspector" not in line]
    assert len(lines) - len(kept) == 2
    project.write("app/main.py", "".join(kept))

    project.run("uv run ruff check")
    project.run("uv run ruff format --check")
    project.run("uv run pytest -m 'not processes'")
