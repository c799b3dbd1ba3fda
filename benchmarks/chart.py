"""Draws the rates of one figure: `python -m benchmarks.chart RESULTS.json FIGURE CHART.svg`."""

import json
import sys
from html import escape
from pathlib import Path

from benchmarks import effects, receive
from benchmarks.results import Results, Sample

TITLES = {
    "effects": (effects.RATE, "Effects committed per second, by a service on one core"),
    "receive": (receive.RATE, "Webhooks acknowledged per second, by a service on one core"),
}
OURS = "this template"
FORGETFUL = ("the snippet", "stripe's construct_event")
LABELS, BARS, ROW = 400, 400, 30  # widths, and the height of a row

# It has its own background: on a dark site in a light browser, text would be dark on dark.
STYLE = """
  .page { fill: #ffffff }
  text { font-family: system-ui, sans-serif; font-size: 14px; fill: #1f2328 }
  .title { font-weight: 600 }
  .faint { fill: #59636e; font-size: 12px }
  .ours { fill: #0a7d55 }
  .keeps { fill: #8c959f }
  .forgets { fill: none; stroke: #8c959f; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 }
    text { fill: #f0f6fc }
    .faint { fill: #9198a1 }
    .ours { fill: #2ea87a }
    .keeps { fill: #656c76 }
    .forgets { stroke: #9198a1 }
  }
"""


def draw(results: Results) -> str:
    """Return a bar chart of the medians: solid bars keep what they acknowledge."""
    metric, title = TITLES[results.figure]
    medians = results.medians()
    rates = {subject: values[metric] for subject, values in medians.items()}
    fastest_first = sorted(rates, key=lambda subject: -rates[subject])
    parts = [
        '<rect class="page" width="100%" height="100%"/>',
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
        '<text class="faint" x="0" y="38">dashed: forgotten at a restart · 32 connections</text>',
    ]
    for row, subject in enumerate(fastest_first):
        share = rates[subject] / rates[fastest_first[0]]
        parts += _bar(subject, rates[subject], share, 54 + ROW * row)
    height = 74 + ROW * len(rates)
    said = "; ".join(f"{subject}: {rates[subject]:,.0f}" for subject in fastest_first)
    body = "\n  ".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f' viewBox="0 0 {LABELS + BARS + 80} {height}" role="img">\n'
        f"  <title>{escape(title)}. {escape(said)}</title>\n"
        f"  <style>{STYLE}</style>\n"
        f"  {body}\n"
        "</svg>\n"
    )


def _bar(subject: str, rate: float, share: float, y: int) -> list[str]:
    width = max(1, BARS * share)
    kind = _kind(subject)
    weight = ' font-weight="600"' if kind == "ours" else ""
    label = f'x="{LABELS - 10}" y="{y + 15}" text-anchor="end"{weight}'
    bar = f'x="{LABELS}" y="{y}" width="{width:.1f}" height="20" rx="3"'
    return [
        f"<text {label}>{escape(subject)}</text>",
        f'<rect class="{kind}" {bar}/>',
        f'<text x="{LABELS + width + 8:.1f}" y="{y + 15}">{rate:,.0f}</text>',
    ]


def _kind(subject: str) -> str:
    if subject.startswith(OURS):
        return "ours"
    return "forgets" if subject.startswith(FORGETFUL) else "keeps"


def main() -> None:
    source, figure, target = sys.argv[1:]
    samples = json.loads(Path(source).read_text())[figure]["samples"]
    results = Results(figure, [Sample(**each) for each in samples])
    Path(target).write_text(draw(results))


if __name__ == "__main__":
    main()
