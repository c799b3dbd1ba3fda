"""What a generated project, and the template itself, consist of."""

import ast
import re
import subprocess
import sys
from fnmatch import fnmatch
from itertools import product
from pathlib import Path, PurePosixPath

import pytest
from conftest import Baked
from cookiecutter.utils import create_env_with_context
from jinja2 import nodes
from project import (
    CHOICES,
    CONFIG,
    PROMPTS,
    QUESTIONS,
    ROOT,
    TEMPLATE,
    TEXTS,
    VARIANTS,
    Project,
    Variant,
    bake,
    bake_over,
)

# The questions whose answers are folders laid over the project.
OVERLAYS = ("provider", "processing")

# What every project consists of, whatever the answers.
COMMON = [
    ".dockerignore",
    ".env",
    ".env.example",
    ".github/workflows/ci.yml",
    ".gitignore",
    "Dockerfile",
    "README.md",
    "app/__init__.py",
    "app/__main__.py",
    "app/commits.py",
    "app/config.py",
    "app/database.py",
    "app/events.py",
    "app/handlers/__init__.py",
    "app/inbox.py",
    "app/main.py",
    "app/models.py",
    "app/processing.py",
    "app/providers/__init__.py",
    "app/queue.py",
    "app/relay.py",
    "app/services/__init__.py",
    "app/services/billing.py",
    "app/shutdown.py",
    "app/webhooks.py",
    "compose.yaml",
    "pyproject.toml",
    "samples/__init__.py",
    "samples/docs.py",
    "samples/send.py",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/payloads.py",
    "tests/slow.py",
    "tests/support.py",
    "tests/test_cli.py",
    "tests/test_config.py",
    "tests/test_http.py",
    "tests/test_inbox.py",
    "tests/test_processing.py",
    "tests/test_queue.py",
    "tests/test_relay.py",
    "tests/test_service.py",
    "tests/worker.py",
]

# What a provider adds, besides its fixtures.
PROVIDER = [
    "app/handlers/{module}.py",
    "app/providers/{module}.py",
    "samples/{module}.py",
    "tests/effects.py",
    "tests/test_{module}.py",
]

# Names that belong only in the projects of a choice, as patterns. A choice that is not listed goes
# by its own name; the first three are ordinary words, and mean nothing where they appear.
NAMES = {
    "custom": [],
    "unsigned": [],
    "background": [],
    "github": ["github(?!/|\\.com|\\.workflow|\\.ref|_env)"],
    "standard-webhooks": ["standard[-_ ]?webhooks"],
    "celery": ["celery", "kombu", "rabbitmq", "amqps?", "pyamqp", "redis", "rediss"],
    "arq": ["arq", "fakeredis", "redis", "rediss"],
}


def template_files(*patterns: str) -> list[Path]:
    """Return the template's files that match a pattern, or lie in a folder that matches one."""
    return sorted(
        file
        for file in TEMPLATE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
        for path in [file.relative_to(TEMPLATE)]
        if any(fnmatch(p.as_posix(), name) for p in (path, *path.parents) for name in patterns)
    )


COPIED = template_files(*CONFIG["_copy_without_render"])
RENDERED = [file for file in template_files("*") if file not in COPIED]


def test_a_project_consists_of_exactly_these_files(variant: Variant, project: Project) -> None:
    overlay = TEMPLATE / "provider" / variant.provider
    fixtures = [file.relative_to(overlay).as_posix() for file in overlay.glob("tests/fixtures/*/*")]
    provider = [name.format(module=variant.module) for name in PROVIDER]
    assert fixtures
    assert project.files == sorted(COMMON + provider + fixtures)


def test_no_file_and_no_folder_is_empty(project: Project) -> None:
    assert [file for file in project.files if not project.read(file).strip()] == []
    folders = [path for path in project.path.rglob("*") if path.is_dir()]
    assert [folder for folder in folders if not any(folder.iterdir())] == []


def test_what_an_answer_leaves_out_leaves_no_trace_in_the_white_space(project: Project) -> None:
    for file in project.files:
        text = project.read(file)
        blank_lines = 2 if file.endswith(".py") else 1
        assert text.endswith("\n"), file
        assert text == text.strip() + "\n", file
        assert "\n" * (blank_lines + 2) not in text, file
        assert "\r" not in text, file
        assert re.search(r"[ \t]$", text, re.MULTILINE) is None, file
        assert re.search(r"[a-z]\.[A-Z][a-z]+ [a-z]", text) is None, file


def illegal_on_windows(path: str) -> bool:
    return any(
        re.search(r'[<>:"|?*\\\x00-\x1f]|[. ]$', part)
        or re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", part, re.IGNORECASE)
        for part in PurePosixPath(path).parts
    )


def test_every_name_is_legal_on_windows(project: Project) -> None:
    assert [file for file in project.files if illegal_on_windows(file)] == []
    assert len({file.casefold() for file in project.files}) == len(project.files)
    assert max(map(len, project.files)) <= 100


def test_the_template_can_be_checked_out_on_windows() -> None:
    files = [file.relative_to(ROOT).as_posix() for file in template_files("*")]
    assert [file for file in files if illegal_on_windows(file)] == []
    assert len({file.casefold() for file in files}) == len(files)
    # Windows allows 260 characters in all.
    assert max(map(len, files)) <= 140


def test_nothing_of_jinja_remains(project: Project) -> None:
    for file in project.files:
        marks = r"\{\{ *cookiecutter|\{%" if file.endswith(".py") else r"(?<!\$)\{\{|\{%|\{#"
        assert re.search(marks, project.read(file)) is None, file


def test_python_sources_hold_no_jinja() -> None:
    sources = template_files("*.py")
    assert sources
    assert set(sources) <= set(COPIED)
    for source in sources:
        ast.parse(source.read_bytes(), str(source))


def test_no_project_names_what_was_not_chosen(variant: Variant, project: Project) -> None:
    chosen = {name for answer in variant.answers.values() for name in NAMES.get(answer, [answer])}
    others = {
        name
        for question in OVERLAYS
        for choice in CHOICES[question]
        for name in NAMES.get(choice, [choice])
    } - chosen
    words = re.compile(f"(?<![a-z])(?:{'|'.join(sorted(others))})(?![a-z])", re.IGNORECASE)
    for file in project.files:
        lines = [file, *project.read(file).splitlines()]
        assert [line for line in lines if words.search(line)] == [], file


def test_every_choice_has_a_folder_and_every_folder_is_a_choice() -> None:
    for question in OVERLAYS:
        folders = {folder.name for folder in (TEMPLATE / question).iterdir()}
        assert folders == set(CHOICES[question])


def test_an_answer_s_folder_replaces_no_common_file() -> None:
    common = {
        file.relative_to(TEMPLATE).as_posix()
        for file in template_files("*")
        if file.relative_to(TEMPLATE).parts[0] not in OVERLAYS
    }
    for question in OVERLAYS:
        for choice in CHOICES[question]:
            folder = TEMPLATE / question / choice
            files = template_files(f"{question}/{choice}/*")
            laid = {file.relative_to(folder).as_posix() for file in files}
            assert laid
            assert laid & common == set()


def conditions(template: nodes.Template) -> list[nodes.If | nodes.CondExpr]:
    return [*template.find_all(nodes.If), *template.find_all(nodes.CondExpr)]


@pytest.mark.parametrize("file", RENDERED, ids=lambda file: file.relative_to(TEMPLATE).as_posix())
def test_every_condition_is_met_by_some_answers_and_not_by_others(file: Path) -> None:
    env = create_env_with_context({"cookiecutter": CONFIG})
    seen: set[tuple[int, bool]] = set()

    def observe(number: int, outcome: object) -> object:
        seen.add((number, bool(outcome)))
        return outcome

    template = env.parse(file.read_text(encoding="utf-8"))
    ifs = conditions(template)
    for number, node in enumerate(ifs):
        observed = [nodes.Const(number), node.test]
        node.test = nodes.Call(nodes.Name("observe", "load"), observed, [], None, None)
    compiled = env.from_string(template)
    for *picked, text in product(*CHOICES.values(), ["", "words"]):
        answers = dict(zip(CHOICES, picked, strict=True)) | dict.fromkeys(TEXTS, text)
        compiled.render(cookiecutter=answers, observe=observe)
    assert seen == set(product(range(len(ifs)), (True, False)))


def test_every_question_and_every_choice_is_asked_in_words() -> None:
    assert PROMPTS.keys() == QUESTIONS.keys()
    for question, choices in CHOICES.items():
        assert PROMPTS[question].keys() == {"__prompt__", *choices}
        assert len(set(PROMPTS[question].values())) == len(choices) + 1
    # Square brackets would be taken for a style.
    assert "[" not in str(PROMPTS).replace("['", "")


def test_generating_twice_gives_the_same_bytes(
    variant: Variant, project: Project, tmp_path: Path
) -> None:
    again = bake(tmp_path / "elsewhere", **variant.answers)
    assert again.files == project.files
    for file in project.files:
        assert (again.path / file).read_bytes() == (project.path / file).read_bytes(), file
        assert (again.path / file).stat().st_mode == (project.path / file).stat().st_mode, file


def test_generating_over_a_project_gives_the_same_bytes(
    variant: Variant, baked: Baked, tmp_path: Path
) -> None:
    fresh = baked(variant)
    bake(tmp_path, **variant.answers)
    again = bake_over(tmp_path, **variant.answers)
    assert {file: again.read(file) for file in again.files} == {
        file: fresh.read(file) for file in fresh.files
    }


def keys_used(text: str) -> set[tuple[str, str]]:
    """Return the questions a text answers or reads, each with the choice it makes, if any."""
    reads = {(key, "") for key in re.findall(r"\{[{%][^}]*?\bcookiecutter\.([a-z]\w*)", text)}
    commands = re.findall(r"cookiecutter [^\n|]*--no-input[^\n|]*(?:\\\n[^\n|]*)*", text)
    answers = [pair for line in commands for pair in re.findall(r"\s([a-z]\w*)=(\S+)", line)]
    return reads | set(answers)


def keys_passed(source: ast.Module) -> set[tuple[str, str]]:
    """Return the answers that calls of `bake` and its like give by keyword."""
    return {
        (keyword.arg, "")
        for call in ast.walk(source)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) in {"bake", "bake_over", "generate_typing"}
        for keyword in call.keywords
        if keyword.arg
    }


def our_files() -> list[Path]:
    listed = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.splitlines() if (path := ROOT / name).is_file()]


def test_every_answer_that_tests_docs_and_workflows_use_exists() -> None:
    used: set[tuple[str, str]] = set()
    for file in our_files():
        text = file.read_text(encoding="utf-8")
        used |= keys_used(text)
        if file.suffix == ".py" and file.is_relative_to(ROOT / "tests"):
            used |= keys_passed(ast.parse(text))
    assert used
    for key, value in used:
        assert key in QUESTIONS
        assert not value or key in TEXTS or value.strip("`\"'") in CHOICES[key]


def test_every_test_that_a_document_names_exists() -> None:
    files = our_files()
    documents = [file for file in files if file.suffix == ".md"]
    named = {
        name
        for document in documents
        for name in re.findall(r"`(tests/\w+\.py)::(\w+)`", document.read_text(encoding="utf-8"))
    }
    assert named
    for path, test in named:
        sources = [file.read_text(encoding="utf-8") for file in files if file.match(path)]
        assert any(f"def {test}(" in source for source in sources), f"{path}::{test}"


@pytest.mark.parametrize("check", ["check", "format --check --diff"])
def test_ruff_finds_nothing_in_the_template_s_own_sources(check: str, baked: Baked) -> None:
    config = baked(VARIANTS[0]).path / "pyproject.toml"
    options = ["--no-cache", "--config", str(config), "--extend-exclude", "pyproject.toml"]
    command = [sys.executable, "-m", "ruff", *check.split(), *options, "."]
    done = subprocess.run(command, cwd=TEMPLATE, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
