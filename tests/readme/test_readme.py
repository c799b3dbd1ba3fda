"""Every command that is documented can be typed, page after page, in one terminal.

What is fenced as `sh` is run; what cannot be run here is fenced as `sh no-run`. A line that starts
a server leaves it running, until a later line starts it anew.
"""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Baked, Install
from live.shared import REDIS
from project import CHOICES, ROOT, VARIANTS, Project, Variant, bake, user_config

from readme.terminal import Terminal

README = "README.md"
FENCE = re.compile(r"^ *(```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^ *\1$", re.MULTILINE | re.DOTALL)
SHELLS = {"bash", "shell", "console", "zsh", "terminal", "shell-session", "cmd", "powershell"}
ADDRESS = re.compile(
    r"(?:gh:|(?:git\+)?https://github\.com/)[\w.-]+/cookiecutter-fastapi-webhooks\S*"
)

# tests/test_variants.py runs these, in every variant.
CHECKED_ELSEWHERE = {
    "uv run pytest",
    "uv run ruff check",
    "uv run ruff format",
    "uv run ruff format --check",
    "uv run mypy",
}

# Each provider and each processing once, with the first choice of the other question.
FIRST = {CHOICES["provider"][0], CHOICES["processing"][0]}
TYPED = [variant for variant in VARIANTS if FIRST & set(variant.answers.values())]


class Fence(NamedTuple):
    """A fenced block: what it says it is, and what is in it."""

    info: str
    body: str


def fences(text: str) -> list[Fence]:
    return [
        Fence(match["info"].strip(), textwrap.dedent(match["body"]))
        for match in FENCE.finditer(text)
    ]


def commands(text: str) -> list[str]:
    """Return what is to be typed: whole statements, without the comments between them."""
    shown = "\n".join(fence.body for fence in fences(text) if fence.info == "sh")
    lines = shown.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def type_all(text: str, terminal: Terminal) -> None:
    for command in commands(text):
        if re.sub(r"\s+#.*", "", command) not in CHECKED_ELSEWHERE:
            terminal.type(ADDRESS.sub(str(ROOT), command))


def test_the_commands_of_the_templates_readme_work(tmp_path: Path) -> None:
    text = (ROOT / README).read_text(encoding="utf-8")
    assert commands(text)
    folder = tmp_path / "reader"
    folder.mkdir()
    with Terminal(folder, COOKIECUTTER_CONFIG=user_config(folder)) as terminal:
        type_all(text, terminal)


@pytest.mark.parametrize("variant", TYPED, ids=str)
def test_the_commands_of_a_projects_documentation_work(
    variant: Variant, install: Install, tmp_path: Path
) -> None:
    if variant.processing == "arq":
        REDIS.require()
    project = bake(tmp_path, **variant.answers)
    project.share_environment(install(variant).path / ".venv")
    text = project.guide()
    assert commands(text)
    with Terminal(project.path) as terminal:
        type_all(text, terminal)


def test_the_projects_whose_commands_are_typed_have_all_commands(baked: Baked) -> None:
    typed, all_there_are = (
        {command for variant in variants for command in commands(baked(variant).guide())}
        for variants in (TYPED, VARIANTS)
    )
    assert typed == all_there_are


def test_no_command_escapes_these_tests_by_another_name(project: Project) -> None:
    for text in (project.guide(), (ROOT / README).read_text(encoding="utf-8")):
        infos = [fence.info for fence in fences(text)]
        assert "" not in infos, "say what is in each fenced block"
        assert {info.split()[0].lower() for info in infos} & SHELLS == set(), "write sh"
        assert {info for info in infos if info.startswith("sh ")} <= {"sh no-run"}


def test_commands_are_found_in_fences_joined_and_in_order() -> None:
    text = """
```sh
cd a  # there

# a comment
uv run \\
  b
```
1. In a list:

   ```sh
   c "d
   ```

```sh no-run
npx e
```
```python
f()
```
"""
    assert commands(text) == ["cd a  # there", "uv run    b", 'c "d']
