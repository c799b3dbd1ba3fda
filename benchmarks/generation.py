"""The time of one bake by the command, against Cookiecutter on a template with nothing in it.

With --full also that of all the template's tests: every variant, and what is done to break it.
"""

import resource
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
    if options.full:
        results.add(Sample("all the template's tests", "", 1, _test()))
    return results


def _test() -> dict[str, float]:
    """Run the README's command, and return what it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    subprocess.run(["uv", "run", "pytest"], cwd=ROOT, env=clean_environment(), check=True)
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "CPU seconds": used}


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
