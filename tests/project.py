"""The template as data, and the projects generated from it."""

import atexit
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "{{cookiecutter.project_slug}}"

CONFIG = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
PROMPTS = CONFIG["__prompts__"]
FACTS = CONFIG["_facts"]
QUESTIONS = {key: value for key, value in CONFIG.items() if not key.startswith("_")}
TEXTS = [key for key, value in QUESTIONS.items() if isinstance(value, str)]
CHOICES = {key: value for key, value in QUESTIONS.items() if isinstance(value, list)}


@dataclass(frozen=True)
class Variant:
    """A pair of answers that decides which code a project has."""

    provider: str
    processing: str

    def __str__(self) -> str:
        return f"{self.provider}-{self.processing}"

    @property
    def module(self) -> str:
        """The provider, as its modules are named."""
        return self.provider.replace("-", "_")

    @property
    def answers(self) -> dict[str, str]:
        return {"provider": self.provider, "processing": self.processing}

    @property
    def sample(self) -> str:
        """The type of the event that users are told to send first."""
        return str(FACTS[self.provider]["sample"])

    @property
    def worker(self) -> str:
        """The command that starts a worker; empty if there is none."""
        return str(FACTS[self.processing]["worker"])


# The documentation of a project, in the order in which it is read.
PAGES = [
    "README.md",
    "docs/handlers.md",
    "docs/provider.md",
    "docs/endpoints.md",
    "docs/reference.md",
    "docs/operate.md",
    "docs/deploy.md",
    "docs/update.md",
]

VARIANTS = [Variant(*pair) for pair in product(CHOICES["provider"], CHOICES["processing"])]


def repository_files() -> list[Path]:
    """Return the files of this repository, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    paths = [ROOT / name for name in sorted(set(listed.split("\0"))) if name]
    return [path for path in paths if path.is_file()]  # git still lists what was just removed


def copy_template(folder: Path) -> Path:
    """Copy the template to a folder as a clone has it: without caches and the like."""
    for file in repository_files():
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return folder


@cache
def clean_template() -> str:
    folder = Path(mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(copy_template(folder))


# Variables that would change what a generated project does. With the last one, each process that a
# test starts would compile all that it imports.
MISLEADING = {"VIRTUAL_ENV", "PYTHONPATH", "ENVIRONMENT", "DATABASE_URL", "BROKER_URL"}
MISLEADING |= {"PYTHONDONTWRITEBYTECODE"}
MISLEADING_PREFIXES = ("TEST_", "PYTEST_", "COOKIECUTTER_", "UV_PROJECT")


def clean_environment(**extra: str) -> dict[str, str]:
    """Return the environment variables of this process, without those that a user has not set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in MISLEADING
        and not name.startswith(MISLEADING_PREFIXES)
        and not name.endswith("_SECRET")
    }
    return kept | extra


@dataclass(frozen=True)
class Project:
    """A generated project."""

    path: Path

    @property
    def files(self) -> list[str]:
        """Every file, as a path relative to the project, in order."""
        files = [file for file in self.path.rglob("*") if not file.is_dir()]
        return sorted(file.relative_to(self.path).as_posix() for file in files)

    def read(self, file: str) -> str:
        return (self.path / file).read_bytes().decode()

    def guide(self) -> str:
        """Return its whole documentation: the README, and after it the other pages."""
        return "\n".join(self.read(page) for page in PAGES)

    def write(self, file: str, text: str) -> None:
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())

    def contents(self) -> dict[str, str]:
        """Return the text of every file."""
        return {file: self.read(file) for file in self.files}

    @property
    def environment(self) -> Path:
        """The virtual environment that it uses."""
        return (self.path / ".venv").resolve()

    def share_environment(self, environment: Path) -> None:
        """Use a virtual environment that belongs to other projects, too."""
        (self.path / ".venv").symlink_to(environment, target_is_directory=True)

    def run(self, command: str, timeout: float = 600, **environment: str) -> str:
        """Run a command in the project and return what it printed.

        Raises:
            AssertionError: it failed; the message is everything it printed.
        """
        return run(shlex.split(command), self.path, timeout, **environment)


def run(command: list[str], folder: Path, timeout: float = 600, **environment: str) -> str:
    """Run a command in a folder and return what it printed.

    Raises:
        AssertionError: it failed; the message is everything it printed.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean_environment(**environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
    )
    line = shlex.join(command)
    assert done.returncode == 0, f"{line} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


def package_name(requirement: str) -> str:
    """Return the name of the package that a requirement like `celery[redis]>=5` asks for."""
    return re.split(r"[\[<>=!~; ]", requirement)[0]


def user_config(folder: Path, **defaults: str) -> str:
    """Write a file like a user's `~/.cookiecutterrc`, with default answers; return its path.

    With it, Cookiecutter keeps its own files beside `folder`, not in `~`.
    """
    aside = folder.with_name(f"{folder.name}.cookiecutter")
    aside.mkdir(parents=True, exist_ok=True)
    config = aside / "config.yaml"
    settings = {
        "cookiecutters_dir": str(aside),
        "replay_dir": str(aside),
        "default_context": defaults,
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    return str(config)


def bake(folder: Path, **answers: str) -> Project:
    """Generate a project in `folder`, in this process."""
    return _bake(folder, user_config(folder), answers)


def bake_again(folder: Path, project: Project) -> Project:
    """Generate a project in `folder`, in this process, with the answers recorded in `project`."""
    return _bake(folder, str(project.path / ".cookiecutter.yaml"), {})


def _bake(folder: Path, config: str, answers: dict[str, str]) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    path = cookiecutter(
        clean_template(),
        no_input=True,
        extra_context=answers,
        output_dir=str(folder),
        config_file=config,
    )
    return Project(Path(path))


def generate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Generate a project in `folder` with the command, without prompts."""
    if "--config-file" not in arguments:
        arguments += ("--config-file", user_config(folder))
    return _cookiecutter(folder, "--no-input", *arguments)


def generate_typing(folder: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    """Generate a project in `folder` with the command, typing these answers at its prompts."""
    assert answers.keys() <= QUESTIONS.keys()
    typed = "".join(f"{answers.get(question, '')}\n" for question in QUESTIONS)
    return _cookiecutter(folder, "--config-file", user_config(folder), typed=typed)


def _cookiecutter(
    folder: Path, *arguments: str, typed: str = ""
) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", clean_template(), *arguments],
        cwd=folder,
        env=clean_environment(PYTHONUTF8="1"),
        input=typed,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=120,
        check=False,
    )
