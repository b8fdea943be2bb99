"""The report as one page: `index.html`, a single file that asks for nothing and sends nothing.

    runs/**/{rows.csv, run.json, metrics.csv, gallery/}, sweep.csv ──write_page──► index.html

Tables, charts and pictures are in the HTML; `page.js` sorts, filters, chooses and moves the slider.
The page's own policy forbids every request, and every script but its own two, which it names by
their hashes. Made from the same runs it is the same file, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from unlossy.errors import UserError
from unlossy.report import paired
from unlossy.report.markup import Markup, element, joined
from unlossy.report.page_cards import cards, sweeps
from unlossy.report.page_charts import charts
from unlossy.report.page_gallery import Gallery, gallery
from unlossy.report.page_pairs import pairs
from unlossy.report.page_results import clips, results
from unlossy.report.rows import Row, Run, collect, find_runs, label, number
from unlossy.report.table import MARKS, PROTOCOL, spread

HERE = Path(__file__).parent
LEAD = "How well networks undo lossy media: what they restored, measured against the clean clips."
RESULTS_READING = (
    f"Mean over clips, ± standard deviation over seeds where there are several. {MARKS}"
)
TITLE_OF_SECTIONS = {
    "results": "Results",
    "pairs": "Paired comparisons",
    "charts": "Charts",
    "gallery": "Gallery",
    "clips": "Clip by clip",
    "sweeps": "Sweeps",
    "runs": "Run cards",
}


def write_page(root: Path, out: Path) -> Path:
    """Write `index.html` of all runs under `root` into `out`.

    Returns:
        The path of the page.

    Raises:
        UserError: no finished run under `root`, a damaged file in one, or `out` cannot be written.
    """
    rows, runs = collect(root), find_runs(root)
    shown = gallery(rows, runs, root)
    sections = dict(_sections(rows, runs, root, shown))
    body = joined(_section(key, content) for key, content in sections.items() if content)
    links = [
        element("li", element("a", TITLE_OF_SECTIONS[key], href=f"#{key}"))
        for key, content in sections.items()
        if content
    ]
    title = f"Results in {root.resolve().name}"
    page = _filled(
        title=element("title", f"{title} · unlossy"),
        heading=element("h1", title),
        facts=_facts(rows, runs),
        contents=element("ul", *links),
        body=body,
        foot=_foot(len(body), shown),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "index.html").write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write the page to {out} ({error}); name another folder."
        ) from error
    return out / "index.html"


def _filled(**parts: Markup) -> str:
    """Return the template with style, scripts, their hashes, and `parts` in it."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    template = (HERE / "page.html").read_text(encoding="utf-8")
    early = re.findall(r"<script>(.*?)</script>", template, re.DOTALL)[0]
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (early, script)
    ]
    return Template(template).substitute(
        parts,
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        script=script,
        hashes=" ".join(f"'sha256-{each}'" for each in hashes),
    )


def _section(key: str, content: Markup) -> Markup:
    heading = element("h2", TITLE_OF_SECTIONS[key], id=f"{key}-title")
    return element("section", heading, content, id=key, aria_labelledby=f"{key}-title")


def _sections(
    rows: Sequence[Row], runs: Sequence[Run], root: Path, shown: Gallery
) -> Iterator[tuple[str, Markup]]:
    compared = paired.comparisons(rows)
    yield "results", joined([_note(RESULTS_READING), results(spread(rows))])
    yield "pairs", joined([_note(paired.READING), pairs(compared)]) if compared else Markup("")
    yield "charts", charts(rows, root)
    yield "gallery", joined([*map(_note, _left_out(shown)), shown.html])
    yield "clips", clips(rows)
    yield "sweeps", sweeps(root)
    yield "runs", cards(runs, root)


def _note(text: str) -> Markup:
    return element("p", text, class_="note")


def _left_out(shown: Gallery) -> list[str]:
    if not shown.left_out:
        return []
    return [
        f"Shown: {_counted(shown.shown, 'clip')}. Left out, to keep the page small: "
        f"{', '.join(shown.left_out)}."
    ]


def _facts(rows: Sequence[Row], runs: Sequence[Run]) -> Markup:
    """Return what was measured, how much of it, when, and with which code."""
    every: dict[tuple[str, str], float] = {}
    for row in rows:
        clip = row["source"], row["clip"]
        every[clip] = max(every.get(clip, 0.0), number(row, "frames") or 0.0)
    newest = max((run.card for run in runs), key=lambda card: str(card.get("started", "")))
    counts = [
        _counted(len(runs), "run"),
        _counted(len({label(row) for row in rows if row["loss"]}), "trained recipe"),
        _counted(len(every), "clip"),
        _counted(int(sum(every.values())), "frame"),
    ]
    made = [f"newest run {_minute(newest)}"] if newest.get("started") else []
    revisions = sorted({str(run.card["git"]) for run in runs if run.card.get("git")})
    if revisions:
        made.append(f"revision{'s' if len(revisions) > 1 else ''} {', '.join(revisions)}")
    return joined(
        [
            element("p", LEAD, class_="lead"),
            element("p", " · ".join(counts), class_="counts"),
            _note(" · ".join(made)) if made else Markup(""),
            _note(PROTOCOL),
        ]
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _minute(card: Mapping[str, Any]) -> str:
    return str(card["started"])[:16].replace("T", " ")


def _foot(size: int, shown: Gallery) -> Markup:
    pictures = f", {shown.size / 1e6:.1f} MB of them pictures" if shown.size else ""
    return _note(
        f"One file of {size / 1e6:.1f} MB{pictures}, which asks for nothing and sends nothing. "
        "Made by python report.py."
    )
