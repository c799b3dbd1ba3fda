"""Refuse answers that no project can be made of, in one line, before there is a folder.

`cookiecutter.json` calls this as soon as the texts are answered. A hook would be too late:
Cookiecutter removes the folder whose hook fails, and if the answer for the folder is `x/..`, that
is the folder in which the command was typed.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment
from jinja2.ext import Extension

PYPROJECT = Path(__file__).parent / "{{cookiecutter.project_slug}}" / "pyproject.toml"

TEXTS = ("project_name", "project_slug", "description", "author_name")

# What TOML or YAML refuses, or takes for the end of a line.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")

# A folder on every system, and a name that pyproject.toml may carry (PEP 508).
SLUG = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")

# Windows keeps these names for devices, in any case and with any extension.
DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


class CheckAnswers(Extension):
    """Make `check_answers` known to Jinja."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["check_answers"] = check_answers


def check_answers(answers: Mapping[str, str]) -> str:
    """Return "yes" if a project can be made of these answers.

    Raises:
        SystemExit: it cannot; the line says why, and what to answer instead.
    """
    for question in TEXTS:
        check_text(question, answers[question])
    if not answers["project_name"].strip():
        sys.exit("project_name is empty: answer what the service is called, like My Webhooks")
    check_slug(answers["project_slug"])
    return "yes"


def check_text(question: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        sys.exit(f"{question} is not valid Unicode: type it again")
    if CONTROL.search(text):
        sys.exit(f"{question} must be one line without control characters, {text!a} is not")


def check_slug(slug: str) -> None:
    if not SLUG.fullmatch(slug):
        sys.exit(
            f"project_slug {shortened(slug)} does not name a folder: use at most 64 letters,"
            " digits, '-', '_' and '.', with a letter or digit at both ends, like my-webhooks"
        )
    if DEVICE.fullmatch(slug):
        sys.exit(f"project_slug {slug} is a device on Windows: use another name, like my-{slug}")
    if normalized(slug) in installed_packages():
        sys.exit(
            f"project_slug {slug} is the name of a package that projects install:"
            f" use another name, like {slug}-app"
        )


def shortened(text: str) -> str:
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


def installed_packages() -> set[str]:
    """Return what the projects depend on. One that depends on itself cannot be installed."""
    requirement = re.compile(r'^ +"([A-Za-z0-9._-]+)', re.MULTILINE)
    return {normalized(name) for name in requirement.findall(PYPROJECT.read_text("utf-8"))}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
