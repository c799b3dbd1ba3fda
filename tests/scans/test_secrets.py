"""No secret is in the template, and so in no project generated from it."""

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings
from project import ROOT, repository_files

# What only looks like a secret: the file, the kind, and why it is none.
NO_SECRETS = {
    ("*/fixtures/*.json", "Base64 High Entropy String"): "ids as in the providers' documentation",
    ("*/fixtures/*.json", "Secret Keyword"): "as in the providers' documentation",
    ("*", "Basic Auth Credentials"): "user:password shows what a URL looks like",
    ("*tests/*", "Hex High Entropy String"): "made up for a test",
    ("*tests/*", "Base64 High Entropy String"): "made up for a test",
    ("*tests/*", "Secret Keyword"): "made up for a test",
    ("*/webhooks/stripe.py", "Secret Keyword"): "what the documentation shows of a signature",
    ("*/standard_webhooks.py", "Secret Keyword"): "the prefix of secrets",
    ("CONTRIBUTING.md", "Secret Keyword"): "the name of a variable",
    ("cookiecutter.json", "Secret Keyword"): "the names of variables",
    ("benchmarks/*", "Secret Keyword"): "made up for a measurement",
}


def findings(root: Path, files: Iterable[str]) -> list[tuple[str, str]]:
    """Return file and kind of everything that looks like a secret, and is not explained."""
    secrets = SecretsCollection(root=str(root))
    with default_settings():
        for file in files:
            secrets.scan_file(file)
    found = [(file, secret.type) for file, secret in secrets]
    return [each for each in found if not is_explained(*each)]


def is_explained(file: str, kind: str) -> bool:
    return any(kind == known and fnmatch(file, pattern) for pattern, known in NO_SECRETS)


def test_no_secret_is_in_the_template() -> None:
    files = [file.relative_to(ROOT).as_posix() for file in repository_files()]
    assert findings(ROOT, files) == []


def test_the_scan_would_find_a_secret(tmp_path: Path) -> None:
    key = "AKIA" + "IOSFODNN7ABCDEFG"
    (tmp_path / "settings.py").write_text(f'KEY = "{key}"\n', encoding="utf-8")
    assert findings(tmp_path, ["settings.py"])
