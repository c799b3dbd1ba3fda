"""The time of one bake by the command, against Cookiecutter on a template with nothing in it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from project import ROOT, clean_environment, user_config

from benchmarks.options import Options
from benchmarks.results import Results

OURS, EMPTY = "this template", "an empty template"
BAKES = 3  # a round: one takes about a second


def run(options: Options) -> Results:
    results = Results("generation")
    with tempfile.TemporaryDirectory(prefix="bakes-") as name:
        folder = Path(name)
        templates = {OURS: ROOT, EMPTY: _empty_template(folder)}
        for template in templates.values():
            _bake(template, folder / "warm-up")
        for number in range(1, options.rounds * BAKES + 1):
            for subject, template in templates.items():
                seconds = _bake(template, folder / f"{number}")
                results.add(subject, number, {"seconds": seconds})
    results.compare("seconds", OURS, EMPTY)
    return results


def _empty_template(folder: Path) -> Path:
    empty = folder / "empty"
    (empty / "{{cookiecutter.project_slug}}").mkdir(parents=True)
    (empty / "cookiecutter.json").write_text('{"project_slug": "empty"}')
    return empty


def _bake(template: Path, folder: Path) -> float:
    folder.mkdir(exist_ok=True)
    config = user_config(folder)
    arguments = ["--no-input", "--config-file", config, "--output-dir", str(folder)]
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cookiecutter", str(template), *arguments],
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - begun
