"""A service gets further providers by copying, as docs/endpoints.md of a project says."""

import ast
import json
import re
from pathlib import Path

from conftest import Install
from live.databases import Database
from live.processes import wait_for
from project import FACTS, Project, Variant, bake

from readme.terminal import Terminal
from readme.test_readme import fences

MINE = Variant("stripe", "background")
OTHERS = [Variant("github", "background"), Variant("custom", "background")]


def test_one_service_receives_from_three_providers(install: Install, tmp_path: Path) -> None:
    project = bake(tmp_path / "mine", **MINE.answers)
    project.share_environment(install(MINE).path / ".venv")
    database = Database(f"sqlite:///{project.path / 'inbox.db'}")

    with Terminal(project.path) as terminal:
        terminal.type("uv run uvicorn app.main:app")
        for variant in OTHERS:
            add(variant, project, terminal, tmp_path)

        terminal.type("uv run uvicorn app.main:app")  # anew
        for variant in [MINE, *OTHERS]:
            name = variant.provider
            terminal.type(f"uv run python -m app send {variant.sample} --endpoint {name}")
        wait_for(lambda: database.count("state = 'done'") == 3, "the samples to be handled")
        listed = terminal.type("uv run python -m app events --json").splitlines()
        received = {json.loads(line)["endpoint"] for line in listed}
        assert received == {"stripe", "github", "custom"}

        for check in ("uv run pytest", "uv run ruff check", "uv run mypy"):
            terminal.type(check)
    assert database.rows("SELECT count(*) FROM board") == [(1,)]
    assert database.rows("SELECT count(*) FROM subscriptions") == [(2,)]


def add(variant: Variant, project: Project, terminal: Terminal, folder: Path) -> None:
    """Do what the section says, but for testing and sending: that is done once for all."""
    copying, finishing = commands(project.read("docs/endpoints.md"), variant.module)
    assert copying.pop(0).startswith("uvx cookiecutter ")
    folder = folder / variant.provider
    other = bake(folder, **variant.answers)
    missing = services(other, variant) - services(project, MINE)
    for line in copying:
        from_other = line.replace("../other/", f"{folder}/")
        for module in missing if "MODULE" in line else {""}:
            terminal.type(from_other.replace("MODULE", module))
    carry_over_the_entry(project, other)
    carry_over_variables(project, other)
    carry_over_packages(project, other)
    assert finishing[2:] == [
        "uv run pytest",
        f"uv run python -m app send TYPE --endpoint {variant.module}",
    ]
    if missing:
        for line in finishing[:2]:
            terminal.type(line)


def commands(page: str, module: str) -> list[list[str]]:
    """Return the commands of each fence in the section."""
    _, _, section = page.partition("## Another provider\n")
    section, _, _ = section.partition("\n## ")
    return [fence.body.replace("NAME", module).splitlines() for fence in fences(section)]


def services(project: Project, variant: Variant) -> set[str]:
    handler = project.read(f"app/handlers/{variant.module}.py")
    return set(re.findall(r"^from app\.services import (\w+)$", handler, re.MULTILINE))


def carry_over_the_entry(project: Project, other: Project) -> None:
    theirs = other.read("app/endpoints.py").replace("REMEDY", "REMEDY_2")
    mine = project.read("app/endpoints.py")
    statements = ast.parse(theirs).body[1:]
    lines = [ast.get_source_segment(theirs, statement) or "" for statement in statements]
    new = [line for line in lines if line not in mine and not line.startswith("endpoints = ")]
    imports = "\n".join(line for line in new if line.startswith("from "))
    others = "".join(f"{line}\n\n" for line in new if not line.startswith("from "))
    [entries] = [line for line in lines if line.startswith("endpoints = ")]
    entry = entries.removeprefix("endpoints = [\n").removesuffix("]")
    mine = mine.replace("from app.handlers", f"{imports}\nfrom app.handlers", 1)
    mine = mine.replace("endpoints = [\n", f"{others}endpoints = [\n").removesuffix("]\n")
    project.write("app/endpoints.py", f"{mine}{entry}]\n")
    project.run("uv run ruff check --fix --select I app/endpoints.py")


def carry_over_variables(project: Project, other: Project) -> None:
    mine = project.read(".env.example")
    for line in other.read(".env.example").splitlines():
        if re.match(r"\w+=", line) and line.partition("=")[0] + "=" not in mine:
            for file in (".env.example", ".env"):
                project.write(file, f"{project.read(file)}{line}\n")


def carry_over_packages(project: Project, other: Project) -> None:
    mine = project.read("pyproject.toml")
    lines = other.read("pyproject.toml").splitlines()
    for line in lines:
        if line.startswith('    "') and line not in mine:
            mine = mine.replace("dev = [\n", f"dev = [\n{line}\n")
    project.write("pyproject.toml", mine)


def test_the_providers_that_are_added_differ_in_what_they_bring_along() -> None:
    assert FACTS["github"]["without"]  # a service and a table of its own, and a package
    assert not FACTS["custom"]["without"]  # a service that is there already, and more settings
