"""Where the time of the serving process goes under load, by py-spy."""

import shutil
from collections import Counter
from pathlib import Path

from live import wait_for
from project import clean_environment

from benchmarks.load import send_for
from benchmarks.options import Options
from benchmarks.results import Results, Sample
from benchmarks.workbench import Missing, Pinned, Workbench, take_cores, workbenches

TOP = 40


def run(options: Options) -> Results:
    if shutil.which("py-spy") is None:
        raise SystemExit(
            "py-spy is missing: uv run --group benchmarks python -m benchmarks profile"
        )
    results = Results("profile")
    with workbenches(options.processings[:1], take_cores()) as benches:
        [bench] = benches.values()
        for kind in options.databases:
            try:
                shares = _measure(bench, kind, options.seconds)
            except Missing as missing:
                results.leave_out(kind, missing)
                continue
            whole = sum(shares["itself"].values())
            for what, counts in shares.items():
                for function, samples in counts.most_common(TOP):
                    share = {f"{what} %": 100 * samples / whole}
                    results.add(Sample(function, kind, 1, share))
    return results


def _measure(bench: Workbench, kind: str, seconds: float) -> dict[str, Counter[str]]:
    """Return samples by function: in it itself, and in it or in what it calls."""
    raw = bench.folder / f"{kind}.raw"
    with bench.database(kind) as database, bench.service(database) as server:
        send_for(server, 1)
        command = f"py-spy record --pid {server.pid} --duration {seconds:.0f} --rate 500"
        command += f" --threads --format raw --output {raw}"
        with Pinned(bench.project.path, bench.cores.load, command, clean_environment()) as spy:
            send_for(server, seconds + 1)
            wait_for(lambda: spy.ended, "py-spy to end")
            assert raw.exists(), spy.printed
    return _count(raw)


def _count(raw: Path) -> dict[str, Counter[str]]:
    itself, below = Counter[str](), Counter[str]()
    for line in raw.read_text().splitlines():
        stack, _, number = line.rpartition(" ")
        frames = [_without_line(frame) for frame in stack.split(";")]
        itself[frames[-1]] += int(number)
        for frame in set(frames):
            below[frame] += int(number)
    return {"itself": itself, "with callees": below}


def _without_line(frame: str) -> str:
    name, _, place = frame.partition(" (")
    return f"{name} ({place.rpartition(':')[0]})" if place else name
