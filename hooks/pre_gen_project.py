"""Refuse an answer no project can be made of, in one line, before a file is written."""

import os
import sys

# Hexadecimal is the one spelling that no answer, whatever its quotes, can break out of.
TEXTS = {
    "project_name": "{{ cookiecutter.project_name.encode('utf-8', 'surrogatepass').hex() }}",
    "project_slug": "{{ cookiecutter.project_slug.encode('utf-8', 'surrogatepass').hex() }}",
    "description": "{{ cookiecutter.description.encode('utf-8', 'surrogatepass').hex() }}",
    "author_name": "{{ cookiecutter.author_name.encode('utf-8', 'surrogatepass').hex() }}",
}

# Windows keeps these names for devices, in any case and with any extension.
DEVICES = {"con", "prn", "aux", "nul"} | {f"{p}{n}" for p in ("com", "lpt") for n in range(10)}


def is_control(character: str) -> bool:
    """Tell the characters TOML refuses and those YAML refuses or ends a line at."""
    return (
        character < " " or "\x7f" <= character <= "\x9f" or character in "\u2028\u2029\ufffe\uffff"
    )


for question, answer in TEXTS.items():
    try:
        text = bytes.fromhex(answer).decode()
    except UnicodeDecodeError:
        sys.exit(f"{question} is not valid Unicode: type it again")
    if any(map(is_control, text)):
        sys.exit(f"{question} must be one line without control characters, {text!a} is not")
    TEXTS[question] = text

if not TEXTS["project_name"].strip():
    sys.exit("project_name is empty: answer what the service is called, like My Webhooks")

# A folder on every system, and a name pyproject.toml may carry (PEP 508).
slug = TEXTS["project_slug"]
plain = slug.replace("-", "").replace("_", "").replace(".", "")
if not (slug.isascii() and plain.isalnum() and slug[0].isalnum() and slug[-1].isalnum()):
    sys.exit(
        "project_slug holds only letters, digits, '-', '_' and '.', and begins and ends with"
        f" a letter or digit: answer something like my-webhooks instead of {slug!a}"
    )
if slug.partition(".")[0].lower() in DEVICES:
    sys.exit(f"project_slug {slug!a} is a device on Windows: answer something like my-{slug}")

# Only found when generating over a project; the post_gen hook would take it for its own.
for folder in ("provider", "processing"):
    if os.path.exists(folder):
        sys.exit(f"the project has a {folder} folder of its own: rename it and try again")
