"""What scanners say of the template and of what it makes."""

import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from conftest import Baked
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings
from project import ROOT, VARIANTS, Project, Variant
from test_hygiene import our_files

FOUND_BUT_NO_SECRETS = {
    ("*/fixtures/stripe/*.json", "Base64 High Entropy String"): "ids as in Stripe's documentation",
    (
        "*/payment_intent.succeeded.json",
        "Secret Keyword",
    ): "as in Stripe's documentation",
    ("*.env.example", "Basic Auth Credentials"): "user:password shows what a URL looks like",
    ("*README.md", "Basic Auth Credentials"): "user:password shows what a URL looks like",
    ("*app/queue.py", "Basic Auth Credentials"): "user:password shows what a URL looks like",
    ("*tests/test_config.py", "Basic Auth Credentials"): "made up, to see that it is never shown",
    (
        "*tests/test_config.py",
        "Hex High Entropy String",
    ): "made up, to be taken for real",
    ("*tests/test_relay.py", "Basic Auth Credentials"): "of a broker that does not exist",
    ("*tests/test_service.py", "Hex High Entropy String"): "made up, of services that live shortly",
    ("tests/chaos.py", "Secret Keyword"): "made up, of services that live for a test",
    ("tests/servers.py", "Basic Auth Credentials"): "the one with which RabbitMQ is installed",
    ("benchmarks/*", "Secret Keyword"): "made up, of services that live for a measurement",
}


def findings(root: Path, files: Iterable[str]) -> list[tuple[str, str]]:
    """Return file and kind of everything that looks like a secret."""
    secrets = SecretsCollection(root=str(root))
    with default_settings():
        for file in files:
            secrets.scan_file(file)
    return [(file, secret.type) for file, secret in secrets]


def explains(exception: tuple[str, str], finding: tuple[str, str]) -> bool:
    return fnmatch(finding[0], exception[0]) and finding[1] == exception[1]


def unexplained(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    known = FOUND_BUT_NO_SECRETS
    return [each for each in found if not any(explains(exception, each) for exception in known)]


def test_no_secret_is_in_the_template_and_no_exception_is_idle() -> None:
    found = findings(ROOT, [file.relative_to(ROOT).as_posix() for file in our_files()])
    assert unexplained(found) == []
    known = FOUND_BUT_NO_SECRETS
    assert [e for e in known if not any(explains(e, each) for each in found)] == []


def test_no_secret_is_in_a_generated_project(project: Project) -> None:
    files = [file for file in project.files if file != ".env"]  # a copy of .env.example
    assert unexplained(findings(project.path, files)) == []


def test_the_scan_would_find_a_secret(tmp_path: Path) -> None:
    key = "AKIA" + "IOSFODNN7ABCDEFG"
    (tmp_path / "settings.py").write_text(f'KEY = "{key}"\n', encoding="utf-8")
    assert unexplained(findings(tmp_path, ["settings.py"]))


@pytest.mark.parametrize("whose", ["template", "project"])
def test_ruff_looks_for_what_is_unsafe(whose: str, baked: Baked) -> None:
    folder = ROOT if whose == "template" else baked(VARIANTS[0]).path
    config = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert "S" in config["tool"]["ruff"]["lint"]["select"]


def commands(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_workflow_looks_for_known_vulnerabilities() -> None:
    assert "uv run pytest tests/audit.py" in commands(ROOT / ".github/workflows/ci.yml")
    assert (ROOT / "tests/audit.py").exists()


def test_the_workflow_of_a_project_looks_for_known_vulnerabilities(
    variant: Variant, baked: Baked
) -> None:
    [audit] = [
        command
        for command in commands(baked(variant).path / ".github/workflows/ci.yml")
        if "pip-audit" in command
    ]
    assert "--strict" in audit  # or else what it could not look up would count as safe
