"""A project that was edited takes over what has changed in the template since.

docs/update.md of a project shows two ways, one with cruft and one with git alone. Their commands
are run here.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Baked, Install
from project import VARIANTS, Project, clean_environment, copy_template

IN_TEMPLATE = "{{cookiecutter.project_slug}}"

CREATE_WITH_CRUFT = ["uvx cruft create https://github.com/ORG/cookiecutter-fastapi-webhooks"]
CREATE_WITH_GIT = ["uvx cookiecutter gh:ORG/cookiecutter-fastapi-webhooks"]

FIRST_COMMIT = [
    "git init",
    "git add --all",
    "git commit --message generated",
    "git branch template",
]

LINK_TO_CRUFT = [
    "uvx cruft link https://github.com/ORG/cookiecutter-fastapi-webhooks"
    " --config-file .cookiecutter.yaml --no-input",
]
UPDATE_WITH_CRUFT = ["uvx cruft update --skip-apply-ask"]

GENERATE_INTO_BRANCH = (
    "uvx cookiecutter gh:ORG/cookiecutter-fastapi-webhooks --config-file .cookiecutter.yaml"
    " --no-input --overwrite-if-exists --output-dir ../update"
)
COMMIT_BRANCH = [
    "git -C ../update/my-webhooks add --all",
    "git -C ../update/my-webhooks commit --message template",
    "git worktree remove ../update/my-webhooks",
]
UPDATE_WITH_GIT = [
    "git worktree add --no-checkout ../update/my-webhooks template",
    GENERATE_INTO_BRANCH,
    *COMMIT_BRANCH,
    "git merge template",
]

# If the project was edited before its first commit. `OLD` is the version it was generated with.
BEGIN_BRANCH = [
    "git worktree add --no-checkout -b template ../update/my-webhooks",
    f"{GENERATE_INTO_BRANCH} --checkout OLD",
    *COMMIT_BRANCH,
    "git merge --strategy ours template",
]

# What is typed before there is a project, then in it, and later to update it.
WAYS = {
    "cruft": (CREATE_WITH_CRUFT, FIRST_COMMIT, UPDATE_WITH_CRUFT),
    "cruft link": (CREATE_WITH_GIT, LINK_TO_CRUFT + FIRST_COMMIT, UPDATE_WITH_CRUFT),
    "git": (CREATE_WITH_GIT, FIRST_COMMIT, UPDATE_WITH_GIT),
}

HANDLERS = "app/handlers/stripe.py"
DOT_ENV = "STRIPE_WEBHOOK_SECRET=whsec_0f8fad5bd9cb469fa16570867728950e\n"


# Lets git take the template at hand for the one at the documented address.
GIT_CONFIG = """
[user]
    name = A
    email = a@example.com
[url "file://{template}"]
    insteadOf = https://github.com/ORG/cookiecutter-fastapi-webhooks
    insteadOf = https://github.com/ORG/cookiecutter-fastapi-webhooks.git
"""


@dataclass(frozen=True)
class Folder(Project):
    """A folder to type commands in, with a home folder for git and Cookiecutter."""

    home: Path

    def try_typing(self, command: str) -> tuple[int, str]:
        """Run a command, answer its questions by Enter, return its status and what it printed."""
        arguments = command.split()
        if arguments[0] == "uvx":
            arguments[0:1] = [sys.executable, "-m"]
        done = subprocess.run(
            arguments,
            cwd=self.path,
            env=clean_environment(HOME=str(self.home), GIT_MERGE_AUTOEDIT="no"),
            input="\n" * 20,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        return done.returncode, done.stdout

    def type(self, *commands: str) -> None:
        for command in commands:
            status, printed = self.try_typing(command)
            assert status == 0, f"{command}:\n{printed}"

    def commit(self) -> None:
        self.type("git add --all", "git commit --message changed")

    def replace(self, file: str, old: str, new: str) -> None:
        text = self.read(file)
        assert text.count(old) == 1, f"{old} in {file}"
        self.write(file, text.replace(old, new))


@pytest.fixture
def template(tmp_path: Path) -> Folder:
    """A template under git, at the version `OLD`."""
    home = tmp_path / "home"
    home.mkdir()
    folder = copy_template(tmp_path / "template")
    (home / ".gitconfig").write_text(GIT_CONFIG.format(template=folder.as_posix()))
    template = Folder(folder, home)
    template.type("git init", "git add --all", "git commit --message old", "git tag OLD")
    return template


def generate(template: Folder, *commands: str) -> Folder:
    """Generate a project beside the template."""
    beside = template.path.parent
    Folder(beside, template.home).type(*commands)
    return Folder(beside / "my-webhooks", template.home)


LAST_CASE = "        case _:\n"
OUR_CASE = '        case "charge.succeeded":\n            logger.info("ours")\n'
OUR_ENDPOINT = "\nours = {endpoint.name: endpoint for endpoint in endpoints}\n"
OUR_SETTING = "concurrency: PositiveInt = 8"
OUR_PORT = '    ports: ["127.0.0.1:8765:8000"]'


def edit_project(project: Folder) -> None:
    """Edit handlers, endpoints, settings and `.env`, as users do."""
    project.replace(HANDLERS, LAST_CASE, OUR_CASE + LAST_CASE)
    project.write("app/endpoints.py", project.read("app/endpoints.py") + OUR_ENDPOINT)
    project.replace("app/settings.py", "concurrency: PositiveInt = 16", OUR_SETTING)
    project.replace("compose.yaml", '    ports: ["127.0.0.1:8000:8000"]', OUR_PORT)
    project.write(".env", DOT_ENV)


def change_template(template: Folder) -> None:
    """Add a setting and a file, change lines close to edited ones, and rename an edited file."""
    example = f"{IN_TEMPLATE}/.env.example"
    template.replace(example, "RETRY_CAP_SECONDS=3600\n", "RETRY_CAP_SECONDS=7200\nTHEIRS=1\n")
    settings = f"{IN_TEMPLATE}/app/settings.py"
    template.replace(
        settings, "retry_cap_seconds: Seconds = 3600", "retry_cap_seconds: Seconds = 7200"
    )
    handlers = f"{IN_TEMPLATE}/provider/stripe/{HANDLERS}"
    template.replace(handlers, LAST_CASE, f"{LAST_CASE}            # Theirs.\n")
    folder = template.path / IN_TEMPLATE
    (folder / "compose.yaml").rename(folder / "production.yaml")
    template.write(f"{IN_TEMPLATE}/app/services/theirs.py", '"""Theirs."""\n')
    template.commit()


def assert_both_sides_are_there(project: Folder) -> None:
    handlers = project.read(HANDLERS)
    assert OUR_CASE in handlers
    assert "# Theirs." in handlers
    settings = project.read("app/settings.py")
    assert OUR_SETTING in settings
    assert "retry_cap_seconds: Seconds = 7200" in settings
    assert "THEIRS=1" in project.read(".env.example")
    assert project.read("app/endpoints.py").endswith(OUR_ENDPOINT)
    assert OUR_PORT in project.read("production.yaml")
    assert "compose.yaml" not in project.files
    assert project.read("app/services/theirs.py") == '"""Theirs."""\n'
    assert [file for file in project.files if file.endswith((".rej", ".orig"))] == []
    assert project.read(".env") == DOT_ENV


@pytest.mark.parametrize("way", WAYS)
def test_an_update_keeps_what_was_edited_and_brings_what_is_new(
    way: str, template: Folder, install: Install
) -> None:
    create, begin, update = WAYS[way]
    project = generate(template, *create)
    project.type(*begin)
    edit_project(project)
    project.commit()
    change_template(template)
    project.type(*update)
    assert_both_sides_are_there(project)
    if way == "cruft":  # the other ways give the same files
        project.share_environment(install(VARIANTS[0]).environment)
        project.run("uv run pytest")


@pytest.mark.parametrize("way", WAYS)
def test_where_both_sides_changed_a_line_an_update_leaves_conflict_markers(
    way: str, template: Folder
) -> None:
    create, begin, update = WAYS[way]
    project = generate(template, *create)
    project.type(*begin)
    edit_project(project)
    ours, theirs = "retry_cap_seconds: Seconds = 60", "retry_cap_seconds: Seconds = 7200"
    project.replace("app/settings.py", "retry_cap_seconds: Seconds = 3600", ours)
    project.commit()
    change_template(template)
    for command in update:
        project.try_typing(command)
    settings = project.read("app/settings.py")
    marked = settings[settings.index("<<<<<<< ") : settings.index(">>>>>>> ")]
    assert marked.splitlines()[1:] == [f"    {ours}", "=======", f"    {theirs}"]
    assert project.try_typing("git diff --name-only --diff-filter=U") == (0, "app/settings.py\n")
    assert OUR_CASE in project.read(HANDLERS)
    assert "# Theirs." in project.read(HANDLERS)
    assert [file for file in project.files if file.endswith((".rej", ".orig"))] == []


def test_a_project_that_was_edited_before_its_first_commit_can_be_updated_with_git(
    template: Folder,
) -> None:
    project = generate(template, *CREATE_WITH_GIT)
    edit_project(project)
    project.type(*FIRST_COMMIT[:-1])
    change_template(template)
    project.type(*BEGIN_BRANCH)
    assert OUR_CASE in project.read(HANDLERS)
    project.type(*UPDATE_WITH_GIT)
    assert_both_sides_are_there(project)


def test_cruft_shows_no_secret(template: Folder) -> None:
    project = generate(template, *CREATE_WITH_CRUFT)
    project.type(*FIRST_COMMIT)
    edit_project(project)
    project.commit()
    status, difference = project.try_typing("uvx cruft diff")
    assert status == 0
    assert OUR_SETTING in difference
    assert "whsec" not in difference


def test_the_documentation_of_a_project_shows_these_commands(baked: Baked) -> None:
    shown = baked(VARIANTS[0]).read("docs/update.md").splitlines()
    commands = [
        *FIRST_COMMIT,
        *LINK_TO_CRUFT,
        *UPDATE_WITH_CRUFT,
        *UPDATE_WITH_GIT,
        *BEGIN_BRANCH,
    ]
    assert [command for command in commands if command not in shown] == []
