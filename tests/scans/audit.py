"""Known vulnerabilities in what the projects install: `uv run pytest tests/scans/audit.py`.

Not among the other tests, for it asks PyPI's service for vulnerabilities, which not every network
lets through; the public workflow runs it daily. `--strict` fails where that service is silent.
"""

import subprocess
import sys

import pytest
from conftest import Install
from project import VARIANTS, Variant


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_nothing_that_is_installed_has_a_known_vulnerability(
    install: Install, variant: Variant
) -> None:
    [packages] = install(variant).path.glob(".venv/[Ll]ib/**/site-packages")
    command = [sys.executable, "-m", "pip_audit", "--strict", "--path", str(packages)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
