"""The time of one bake by the command, against Cookiecutter on a template with nothing in it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from project import ROOT, clean_environment, user_config

from benchmarks.options import Options
from benchmarks.results import Aim, Results, Sample

OURS, EMPTY = "this template", "an empty template"
FASTER_ROUNDS = 3  # bakes a round: one takes about a second


def run(options: Options) -> Results:
    results = Results("generation", aims=[Aim("seconds", OURS, EMPTY, 1.15, at_least=False)])
    # In /tmp, as usual: nothing of this has to survive.
    with tempfile.TemporaryDirectory(prefix="bakes-") as name:
        folder = Path(name)
        empty = folder / "empty"
        (empty / "{{cookiecutter.project_slug}}").mkdir(parents=True)
        (empty / "cookiecutter.json").write_text('{"project_slug": "empty"}')
        for template in (ROOT, empty):
            _bake(template, folder / "warm")
        for number in range(1, options.rounds * FASTER_ROUNDS + 1):
            for subject, template in ((OURS, ROOT), (EMPTY, empty)):
                seconds = _bake(template, folder / f"{number}")
                results.add(Sample(subject, "", number, {"seconds": seconds}))
    return results


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
