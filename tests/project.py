"""The template as data, and the projects generated from it."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"

CONFIG = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
PROMPTS = CONFIG["__prompts__"]
QUESTIONS = {key: value for key, value in CONFIG.items() if not key.startswith("_")}
TEXTS = [key for key, value in QUESTIONS.items() if isinstance(value, str)]
CHOICES = {key: value for key, value in QUESTIONS.items() if isinstance(value, list)}


@dataclass(frozen=True)
class Variant:
    """One pair of the answers that decide what the code of a project is."""

    provider: str
    processing: str

    def __str__(self) -> str:
        return f"{self.provider}-{self.processing}"

    @property
    def module(self) -> str:
        """The provider as Python spells it."""
        return self.provider.replace("-", "_")

    @property
    def answers(self) -> dict[str, str]:
        return {"provider": self.provider, "processing": self.processing}


VARIANTS = [Variant(*pair) for pair in product(CHOICES["provider"], CHOICES["processing"])]


# The last of them would let every process that a test starts compile all it imports anew.
ASTRAY = {
    *("VIRTUAL_ENV", "PYTHONPATH", "ENVIRONMENT", "DATABASE_URL", "BROKER_URL"),
    "PYTHONDONTWRITEBYTECODE",
}


def clean_environment(**extra: str) -> dict[str, str]:
    """Return this environment without what would lead a generated project astray."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ASTRAY
        and not name.endswith("_SECRET")
        and not name.startswith(("TEST_", "PYTEST_", "COV_", "COOKIECUTTER_", "UV_PROJECT"))
    } | extra


@dataclass(frozen=True)
class Project:
    """A generated project."""

    path: Path

    @property
    def files(self) -> list[str]:
        """Every file, as a path relative to the project, in order."""
        return sorted(
            file.relative_to(self.path).as_posix()
            for file in self.path.rglob("*")
            if not file.is_dir()
        )

    def read(self, file: str) -> str:
        return (self.path / file).read_bytes().decode()

    def share_environment(self, installed: "Project") -> None:
        """Use what was installed for another project of the same variant."""
        (self.path / ".venv").symlink_to(installed.path / ".venv", target_is_directory=True)

    def run(self, command: str, timeout: float = 600, **environment: str) -> str:
        """Run a command in the project and return what it printed.

        Raises:
            AssertionError: it failed; the message is everything it printed.
        """
        done = subprocess.run(
            shlex.split(command),
            cwd=self.path,
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout


def user_config(folder: Path) -> str:
    """Return a configuration that keeps Cookiecutter's own files beside `folder`, not in `~`."""
    aside = folder.with_name(f"{folder.name}.cookiecutter")
    aside.mkdir(parents=True, exist_ok=True)
    config = aside / "config.yaml"
    folders = {"cookiecutters_dir": str(aside), "replay_dir": str(aside)}
    config.write_text(json.dumps(folders), encoding="utf-8")
    return str(config)


def bake(folder: Path, **answers: str) -> Project:
    """Generate a project in `folder`, in this process."""
    return _bake(folder, answers, overwrite=False)


def bake_over(folder: Path, **answers: str) -> Project:
    """Generate a project in `folder`, over the one that is there."""
    return _bake(folder, answers, overwrite=True)


def _bake(folder: Path, answers: dict[str, str], *, overwrite: bool) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    path = cookiecutter(
        str(ROOT),
        no_input=True,
        extra_context=answers,
        overwrite_if_exists=overwrite,
        output_dir=str(folder),
        config_file=user_config(folder),
    )
    return Project(Path(path))


def generate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Generate a project in `folder` by the command, asking nothing."""
    return _command(folder, "--no-input", *arguments)


def generate_typing(folder: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    """Generate a project in `folder` by the command, typing these answers at its prompts."""
    assert answers.keys() <= QUESTIONS.keys()
    return _command(folder, typed="".join(f"{answers.get(key, '')}\n" for key in QUESTIONS))


def _command(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [
            *(sys.executable, "-m", "cookiecutter", str(ROOT)),
            *("--config-file", user_config(folder)),
            *arguments,
        ],
        cwd=folder,
        env=clean_environment(PYTHONUTF8="1"),
        input=typed,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=120,
        check=False,
    )
