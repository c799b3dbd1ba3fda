"""What a project's documentation teaches about handlers works as it stands there."""

import re
from pathlib import Path

import pytest
from conftest import Install
from project import CHOICES, Variant, bake

from readme.test_readme import fences

SERVICE = "app/services/payments.py"
TEST = "tests/handlers/test_payments.py"


@pytest.mark.parametrize("provider", CHOICES["provider"])
def test_the_handler_that_the_readme_shows_passes_the_test_that_it_shows(
    provider: str, install: Install, tmp_path: Path
) -> None:
    variant = Variant(provider, "background")
    project = bake(tmp_path / "taught", **variant.answers)
    project.share_environment(install(variant).environment)
    shown = [fence.body for fence in fences(project.guide())]
    parts = ("metadata,\n", "await payments.keep", "async def test_a_payment")
    service, case, test = (_only(shown, part) for part in parts)
    [sample] = re.findall(rf"`tests/fixtures/{provider}/([\w./%]+)\.json`", project.guide())
    [sample_body] = [body for body in shown if body.startswith("{") and "19" in body]

    handler = f"app/handlers/{variant.module}.py"
    before, last_case, after = project.read(handler).rpartition("        case _:")
    assert last_case
    imports = "from app.services import payments\n"
    project.write(handler, before.replace("\nfrom app.", f"\n{imports}from app.", 1))
    project.write(handler, project.read(handler) + _indented(case) + last_case + after)
    project.write(SERVICE, service)
    project.write(TEST, test)
    project.write(f"tests/fixtures/{provider}/{sample}.json", sample_body)
    project.run("uv run --no-sync python -m app migrate")
    project.run('uv run --no-sync alembic revision --autogenerate -m "payments"')
    project.run(f"uv run --no-sync pytest {TEST}")
    project.run("uv run --no-sync ruff check --fix")
    project.run("uv run --no-sync mypy")


def _only(shown: list[str], part: str) -> str:
    """Return the first block that has something in it."""
    return next(body for body in shown if part in body)


def _indented(case: str) -> str:
    lines = case.splitlines(keepends=True)
    return "".join(f"        {line}" for line in lines)
