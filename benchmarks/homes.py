"""Where set-ups run: in a generated project, or an environment with a peer's packages."""

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from project import Project, clean_environment, generate

from benchmarks.cores import Cores
from benchmarks.results import Missing
from benchmarks.setups import Setup

BASELINES = Path(__file__).resolve().parent / "baselines"
INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Home:
    """A folder to start processes in, and the `bin` of a virtual environment."""

    folder: Path
    bin: Path
    python_path: str


class Homes:
    """Makes each home when it is first asked for."""

    def __init__(self, folder: Path, cores: Cores) -> None:
        self.folder = folder
        self.cores = cores
        self._environments: dict[tuple[str, ...], Path | Missing] = {}
        self._projects: dict[tuple[object, ...], Home] = {}

    def home(self, setup: Setup) -> Home:
        """Return the home of a set-up.

        Raises:
            Missing: its packages do not install.
        """
        if setup.processing:
            return self._project(setup)
        environment = self.environment(setup.packages)
        return Home(environment, environment / "bin", str(BASELINES))

    def environment(self, packages: tuple[str, ...]) -> Path:
        """Return a virtual environment with these packages.

        Raises:
            Missing: they do not install.
        """
        if packages not in self._environments:
            self._environments[packages] = self._install(packages)
        made = self._environments[packages]
        if isinstance(made, Missing):
            raise made
        return made

    def versions(self, setup: Setup, names: Sequence[str]) -> str:
        """Return the versions of those packages that a set-up has, in a line."""
        python = self.home(setup).bin / "python"
        listed = run(f"uv pip list --python {python} --format json", self.folder)
        installed = {each["name"].lower(): each["version"] for each in json.loads(listed)}
        return ", ".join(f"{name} {installed[name]}" for name in names if name in installed)

    def _install(self, packages: tuple[str, ...]) -> Path | Missing:
        folder = Path(tempfile.mkdtemp(prefix="environment-", dir=self.folder))
        wanted = shlex.join(packages)
        try:
            run(f"uv venv --quiet --clear {folder}", self.folder)
            install = "uv pip install --quiet --compile-bytecode --python"
            run(f"{install} {folder}/bin/python {wanted}", self.folder)
        except AssertionError as error:
            return Missing(f"{wanted} does not install: {error}")
        return folder

    def _project(self, setup: Setup) -> Home:
        key = (setup.processing, setup.handler, setup.edits)
        if key not in self._projects:
            self._projects[key] = self._generate(setup)
        return self._projects[key]

    def _generate(self, setup: Setup) -> Home:
        folder = Path(tempfile.mkdtemp(prefix=f"{setup.processing}-", dir=self.folder))
        project = render(folder, setup.processing)
        if setup.handler or setup.edits:
            as_generated = self._project(replace(setup, handler="", edits=()))
            project.share_environment(as_generated.folder / ".venv")
        else:
            run("uv sync --quiet --no-dev --compile-bytecode", project.path)
        if setup.handler:
            project.write("app/handlers/stripe.py", setup.handler)
        for file, old, new in setup.edits:
            text = project.read(file)
            assert text.count(old) == 1, f"{old!r} is not once in {file}"
            project.write(file, text.replace(old, new))
        return Home(project.path, project.path / ".venv/bin", "")


def render(folder: Path, processing: str) -> Project:
    """Generate a project for Stripe, without prompts."""
    done = generate(folder, "provider=stripe", f"processing={processing}", "project_slug=measured")
    assert done.returncode == 0, done.stderr
    return Project(folder / "measured")


@contextmanager
def homes(cores: Cores) -> Iterator[Homes]:
    """Make room in a folder that survives a reboot: in /tmp, fsync may cost nothing."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir="/var/tmp") as name:
        yield Homes(Path(name), cores)


def run(command: str, folder: Path, **environment: str) -> str:
    """Run a command in a folder, and return what it printed.

    Raises:
        AssertionError: it failed; the message is its standard error.
    """
    done = subprocess.run(
        shlex.split(command),
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        encoding="utf-8",
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stderr}"
    return done.stdout
