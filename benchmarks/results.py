"""What was measured, and what it comes to: medians, and medians of round-by-round ratios."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Sample:
    """One measurement: what, under which conditions, in which round, and the figures."""

    subject: str
    setting: str
    round: int
    values: dict[str, float]


@dataclass(frozen=True)
class Aim:
    """How a figure of one subject shall compare with that of another in the same round."""

    metric: str
    of: str
    to: str
    bound: float
    at_least: bool = True
    setting: str = ""  # any


@dataclass
class Results:
    """All samples of one command, and what was left out."""

    figure: str
    samples: list[Sample] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        figures = ", ".join(f"{value:,.4g} {metric}" for metric, value in sample.values.items())
        print(f"round {sample.round}: {sample.subject}, {sample.setting}: {figures}", flush=True)
        self.samples.append(sample)

    def leave_out(self, what: str, why: object) -> None:
        line = f"{what} left out: {why}"
        if line not in self.missing:
            print(line, flush=True)
            self.missing.append(line)

    def medians(self) -> dict[tuple[str, str], dict[str, float]]:
        """Return the median of each metric, by setting and subject."""
        found: dict[tuple[str, str], dict[str, list[float]]] = {}
        for sample in self.samples:
            metrics = found.setdefault((sample.setting, sample.subject), {})
            for metric, value in sample.values.items():
                metrics.setdefault(metric, []).append(value)
        return {
            key: {metric: median(values) for metric, values in metrics.items()}
            for key, metrics in found.items()
        }

    def ratios(self, aim: Aim) -> dict[str, list[float]]:
        """Return the ratio of each round, by setting."""
        values = {
            (sample.setting, sample.round, sample.subject): sample.values[aim.metric]
            for sample in self.samples
            if aim.metric in sample.values and aim.setting in ("", sample.setting)
        }
        found: dict[str, list[float]] = {}
        for (setting, number, subject), value in values.items():
            other = values.get((setting, number, aim.to))
            if subject == aim.of and other:
                found.setdefault(setting, []).append(value / other)
        return found

    def markdown(self) -> str:
        medians = self.medians()
        metrics = list(dict.fromkeys(metric for each in medians.values() for metric in each))
        parts = [f"### {self.figure}", _table(["", "", *metrics], self._rows(medians, metrics))]
        if aims := list(self._aims()):
            head = ["ratio", "", "median", "rounds", "aim", ""]
            parts.append(_table(head, aims))
        parts += [f"- {line}" for line in self.notes + self.missing]
        return "\n\n".join(parts)

    def _rows(
        self, medians: dict[tuple[str, str], dict[str, float]], metrics: list[str]
    ) -> Iterable[list[str]]:
        for (setting, subject), values in medians.items():
            figures = (_figure(values[m]) if m in values else "" for m in metrics)
            yield [subject, setting, *figures]

    def _aims(self) -> Iterable[list[str]]:
        for aim in self.aims:
            for setting, ratios in self.ratios(aim).items():
                ratio = median(ratios)
                reached = ratio >= aim.bound if aim.at_least else ratio <= aim.bound
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                bound = f"at {'least' if aim.at_least else 'most'} {aim.bound:g}"
                what = f"{aim.metric}: {aim.of} / {aim.to}"
                verdict = "reached" if reached else "**missed**"
                yield [what, setting, f"{ratio:.2f}", spread, bound, verdict]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
