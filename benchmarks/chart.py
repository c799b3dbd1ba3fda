"""Draws the receive rates: `python -m benchmarks.chart RESULTS.json CHART.svg`."""

import json
import sys
from html import escape
from pathlib import Path

from benchmarks.results import Results, Sample

SETTING = "32 connections, 1 KB"  # as benchmarks.receive calls it
SHOWN = "32 connections, 1.2 KB"
OURS = "this template"
LABELS, BARS, ROW = 400, 400, 30  # widths, and the height of a row

# A page of its own: where a site is dark and the browser is not, text would be dark on dark.
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
    rates = {
        subject: values["requests/s"]
        for (setting, subject), values in results.medians().items()
        if setting == SETTING
    }
    most = max(rates.values())
    height = 74 + ROW * len(rates)
    parts = [
        '<rect class="page" width="100%" height="100%"/>',
        '<text class="title" x="0" y="18">Webhooks acknowledged per second, one core</text>',
        '<text class="faint" x="0" y="38">solid: committed with fsync; dashed: forgotten at a'
        f" restart · {SHOWN}</text>",
    ]
    for row, (subject, rate) in enumerate(sorted(rates.items(), key=lambda each: -each[1])):
        y = 54 + ROW * row
        keeps = subject.rsplit(", ")[-1] in {"SQLite", "PostgreSQL"}
        kind = "ours" if subject.startswith(OURS) else "keeps" if keeps else "forgets"
        width = max(1, BARS * rate / most)
        weight = ' font-weight="600"' if kind == "ours" else ""
        parts += [
            f'<text x="{LABELS - 10}" y="{y + 15}" text-anchor="end"{weight}>'
            f"{escape(subject)}</text>",
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{width:.1f}" height="20" rx="3"/>',
            f'<text x="{LABELS + width + 8:.1f}" y="{y + 15}">{rate:,.0f}</text>',
        ]
    body = "\n  ".join(parts)
    size = f'viewBox="0 0 {LABELS + BARS + 80} {height}"'
    said = "; ".join(f"{subject}: {rate:,.0f}" for subject, rate in rates.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"  <title>Webhooks acknowledged per second. {escape(said)}</title>\n"
        f"  <style>{STYLE}</style>\n  {body}\n</svg>\n"
    )


def main() -> None:
    source, target = sys.argv[1:]
    samples = json.loads(Path(source).read_text())["receive"]["samples"]
    results = Results("receive", [Sample(**each) for each in samples])
    Path(target).write_text(draw(results))


if __name__ == "__main__":
    main()
