"""Every variant, handled as its user would, in its own environment."""

import ast
import io
import shlex
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from live import BROKERS, PYTEST, forks_of, postgresql_database
from project import VARIANTS, Project, Variant, clean_environment


@pytest.fixture(
    params=[
        # One worker takes all tests of a variant: its environment is built once.
        pytest.param(variant, id=str(variant), marks=pytest.mark.xdist_group(str(variant)))
        for variant in VARIANTS
    ]
)
def installed(request: pytest.FixtureRequest, install: Callable[[Variant], Project]) -> Project:
    return install(request.param)


def test_ruff_finds_nothing(installed: Project) -> None:
    installed.run("uv run ruff check")


def test_ruff_format_changes_nothing(installed: Project) -> None:
    installed.run("uv run ruff format --check --diff")


def test_mypy_strict_finds_nothing(
    installed: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # What it learns of the libraries is the same in all variants, and takes long the first time.
    cache = tmp_path_factory.getbasetemp().parent / "mypy"
    with FileLock(f"{cache}.lock"):
        installed.run("uv run mypy", MYPY_CACHE_DIR=str(cache))


# Tests that have no use for a database, and take a while.
NOT_THE_DATABASE = ("--ignore=tests/test_config.py", "-k", "not production and not usable_value")


def test_its_tests_pass(installed: Project, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    # What they start is started once as users do, in each processing.
    if request.node.callspec.params["installed"].provider == VARIANTS[0].provider:
        installed.run("uv run pytest")
    else:
        run_forked(installed, tmp_path)


def test_its_tests_pass_on_postgresql(installed: Project, tmp_path: Path) -> None:
    with postgresql_database(tmp_path) as database:
        url = database.url
        run_forked(installed, tmp_path, "--no-cov", *NOT_THE_DATABASE, TEST_DATABASE_URL=url)


def run_forked(project: Project, folder: Path, *options: str, **environment: str) -> None:
    """Run the tests of a project in a process that has the libraries imported, as have its own."""
    if sys.platform != "linux":  # others have no such way to where a test's output goes
        project.run(shlex.join(["uv", "run", "pytest", *options]), **environment)
        return
    forks, output = forks_of(project), folder / "output"
    environment |= {"FORKS": forks.address, "PYTHONPATH": str(Path(__file__).parent)}
    arguments = [*PYTEST, "-p", "forked", *options]
    status = forks.run(project.path, clean_environment(**environment), arguments, output, 600)
    assert status == pytest.ExitCode.OK, output.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize(
    ("processing", "broker"),
    [
        # In the group of the variant, whose environment is there.
        pytest.param(processing, broker, marks=pytest.mark.xdist_group(f"stripe-{processing}"))
        for processing, broker in (("celery", "redis"), ("celery", "rabbitmq"), ("arq", "redis"))
    ],
)
def test_its_tests_pass_with_a_real_broker(
    install: Callable[[Variant], Project], processing: str, broker: str, tmp_path: Path
) -> None:
    with BROKERS[broker]() as url:
        project = install(Variant("stripe", processing))
        run_forked(project, tmp_path, "--no-cov", "tests/test_service.py", TEST_BROKER_URL=url)


def code_lines(source: str) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    no_code = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in no_code
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_what_counts_as_a_line_of_code() -> None:
    assert code_lines('"""Doc."""\n\n# why\nx = """\na\n"""  # text\n\n\ny = (\n    1,\n)\n') == 6


def test_it_can_be_read_in_one_sitting(project: Project) -> None:
    sources = [file for file in project.files if file.startswith("app/") and file.endswith(".py")]
    assert sum(code_lines(project.read(file)) for file in sources) <= 900
    assert [file for file in sources if len(project.read(file).splitlines()) > 200] == []


def test_working_on_it_leaves_nothing_in_git_but_the_lock_file(
    installed: Project, baked: Callable[[Variant], Project], request: pytest.FixtureRequest
) -> None:
    generated = set(baked(request.node.callspec.params["installed"]).files)
    installed.run("git -c init.defaultBranch=main init --quiet")
    untracked = installed.run("git ls-files --others --exclude-standard").splitlines()
    assert set(untracked) == generated - {".env"} | {"uv.lock"}
