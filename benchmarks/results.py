"""What was measured, and what it comes to: medians, and medians of the ratios of each round."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import median


class Missing(Exception):
    """A measurement is left out, because something that it needs is missing: this says what."""


@dataclass(frozen=True)
class Sample:
    """One measurement: its subject, its round and its figures."""

    subject: str
    round: int
    values: dict[str, float]


@dataclass(frozen=True)
class Ratio:
    """A metric of one subject, divided by that of another in the same round."""

    metric: str
    of: str
    to: str


@dataclass
class Results:
    """All samples of one command, and what was left out."""

    figure: str
    samples: list[Sample] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def measure(self, subject: str, number: int, take: Callable[[], dict[str, float]]) -> None:
        """Add what `take` returns; if it fails, go on without it, and say why."""
        try:
            self.add(subject, number, take())
        except (AssertionError, Missing) as error:
            print(error, file=sys.stderr)
            reason = str(error).partition("\n")[0]
            self.note(f"{subject} left out in round {number}: {reason}")

    def add(self, subject: str, number: int, values: dict[str, float]) -> None:
        figures = ", ".join(f"{value:,.4g} {metric}" for metric, value in values.items())
        print(f"round {number}: {subject}: {figures}", flush=True)
        self.samples.append(Sample(subject, number, values))

    def note(self, line: str) -> None:
        """Add a line below the tables, unless it is there already."""
        if line not in self.notes:
            print(line, flush=True)
            self.notes.append(line)

    def compare(self, metric: str, of: str, to: str) -> None:
        ratio = Ratio(metric, of, to)
        if ratio not in self.ratios:
            self.ratios.append(ratio)

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the median of each metric, by subject."""
        found: dict[str, dict[str, list[float]]] = {}
        for sample in self.samples:
            metrics = found.setdefault(sample.subject, {})
            for metric, value in sample.values.items():
                metrics.setdefault(metric, []).append(value)
        return {
            subject: {metric: median(values) for metric, values in metrics.items()}
            for subject, metrics in found.items()
        }

    def of_each_round(self, ratio: Ratio) -> list[float]:
        """Return the ratio of each round in which both were measured."""
        values = {
            (sample.round, sample.subject): sample.values[ratio.metric]
            for sample in self.samples
            if ratio.metric in sample.values
        }
        return [
            value / values[number, ratio.to]
            for (number, subject), value in values.items()
            if subject == ratio.of and values.get((number, ratio.to))
        ]

    def markdown(self) -> str:
        medians = self.medians()
        metrics = list(dict.fromkeys(metric for each in medians.values() for metric in each))
        parts = [f"### {self.figure}", _table(["", *metrics], _rows(medians, metrics))]
        if ratios := list(self._ratio_rows()):
            parts.append(_table(["", "median ratio", "lowest", "highest"], ratios))
        parts.append("\n".join(f"- {line}" for line in self.notes))
        return "\n\n".join(parts)

    def _ratio_rows(self) -> Iterable[list[str]]:
        for ratio in self.ratios:
            values = self.of_each_round(ratio)
            if values:
                figures = (median(values), min(values), max(values))
                what = f"{ratio.metric}: {ratio.of} / {ratio.to}"
                yield [what, *(f"{each:.2f}" for each in figures)]


def _rows(medians: dict[str, dict[str, float]], metrics: list[str]) -> Iterable[list[str]]:
    for subject, values in medians.items():
        yield [subject, *(_figure(values.get(metric)) for metric in metrics)]


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])
