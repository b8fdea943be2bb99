"""The pictures of the page: a slider between two outputs, stills, film and flicker strips.

A clip that several runs show is one exhibit, with the outputs of the newest run of every recipe
beside each other; that it is the same clip is told by its pictures, not by its name. Exhibits are
taken in turns from all sources and degradations until `BUDGET` is spent.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from unlossy.report.gallery import Exhibit, Shown, read_gallery
from unlossy.report.markup import Markup, element, joined
from unlossy.report.rows import Row, Run, label

BUDGET = 13_000_000  # characters of all pictures together, as base64
ENDS = frozenset({"input", "clean"})  # what all runs of a clip have in common
WIDE = 1056  # pixels of the page's column, which frames fill by a whole factor

HOW_TO_READ = (
    "A flicker strip is one row of pixels of every frame, the first frame at the top: what stands "
    "still draws vertical lines, what moves slants them, and what flickers breaks them up. Compare "
    "each with the clean one."
)


@dataclass(frozen=True)
class Entry:
    """An exhibit with the outputs of several runs, each under the name of its recipe."""

    exhibit: Exhibit
    medium: str
    outputs: tuple[tuple[str, Shown], ...]

    @property
    def size(self) -> int:
        """How many characters its pictures take as base64."""
        files = [file for _, each in self.outputs for file in (each.still, each.film, each.rows)]
        return sum(-(-file.stat().st_size // 3) * 4 for file in files)


@dataclass(frozen=True)
class Gallery:
    """What is shown, and what was left out.

    Args:
        html: the section's content; empty where no run left pictures.
        shown: how many clips.
        left_out: names of the clips that found no room.
        size: of the pictures, in characters.
    """

    html: Markup
    shown: int
    left_out: tuple[str, ...]
    size: int


def gallery(rows: Sequence[Row], runs: Sequence[Run], root: Path, budget: int = BUDGET) -> Gallery:
    """Return the pictures of the newest run of every recipe that left some.

    Args:
        rows: of `rows.collect`.
        runs: of `rows.find_runs`.
        root: the folder that it collected from.
        budget: characters that all pictures may take.

    Raises:
        UserError: a run's gallery is damaged.
    """
    shown, left_out, spent = [], [], 0
    for entry in _in_turns(_merged(rows, runs, root)):
        if spent + entry.size <= budget:
            shown.append(entry)
            spent += entry.size
        else:
            left_out.append(f"{entry.exhibit.clip} ({entry.medium})")
    if not shown:
        return Gallery(Markup(""), 0, tuple(left_out), 0)
    thumbs = [_thumb(place, entry) for place, entry in enumerate(shown)]
    chosen = "Strips and films shown are those of both sides of the slider, and the clean clip's."
    html = [
        element("p", HOW_TO_READ, class_="note"),
        element("p", chosen, class_="note needs-script"),
        element("div", *thumbs, class_="thumbs needs-script", role="group", aria_label="Clips"),
        *(_exhibit(place, entry) for place, entry in enumerate(shown)),
    ]
    return Gallery(joined(html), len(shown), tuple(left_out), spent)


def _merged(rows: Sequence[Row], runs: Sequence[Run], root: Path) -> list[Entry]:
    recipes, owners = _recipes(rows, runs, root), dict[tuple[str, str, str], str]()
    media = {(row["run"], row["source"], row["clip"]): row["degradation"] for row in rows}
    found: dict[tuple[str, ...], tuple[Exhibit, str, dict[str, Shown]]] = {}
    for run in (run.folder.relative_to(root).as_posix() for run in reversed(runs)):
        for exhibit in read_gallery(root / run):
            ends = [each.still for each in exhibit.outputs if each.label in ENDS]
            same = [hashlib.sha256(still.read_bytes()).hexdigest() for still in ends]
            medium = media.get((run, exhibit.source, exhibit.clip), exhibit.degradation)
            key = (exhibit.source, exhibit.clip, *same)
            _, _, outputs = found.setdefault(key, (exhibit, medium, {}))
            for each in exhibit.outputs:
                name = recipes.get((run, each.label), each.label)
                place = (name, exhibit.source, exhibit.degradation)
                if each.label in ENDS or owners.setdefault(place, run) == run:
                    outputs.setdefault(name, each)
    return [
        Entry(exhibit, medium, tuple(sorted(outputs.items(), key=lambda item: _order(item[0]))))
        for exhibit, medium, outputs in found.values()
        if outputs.keys() - ENDS
    ]


def _recipes(rows: Sequence[Row], runs: Sequence[Run], root: Path) -> dict[tuple[str, str], str]:
    """Return what the trained models of every run are called in the tables.

    A run whose rows repeat another's is in no table; where its model and loss do not tell which
    recipe it was, its own folder does.
    """
    known = {(row["run"], row["model"]): label(row) for row in rows if row["loss"]}
    peers = Counter({label(row): f"{row['model']} {row['loss']}" for row in rows}.values())
    for run in runs:
        place = run.folder.relative_to(root).as_posix()
        for row in run.rows:
            name = f"{row['model']} {row['loss']}"
            told = name if peers[name] < 2 else f"{name} in {place}"
            if row["loss"]:
                known.setdefault((place, row["model"]), told)
    return known


def _order(name: str) -> tuple[int, str]:
    return {"input": 0, "clean": 2}.get(name, 1), name


def _in_turns(entries: Sequence[Entry]) -> Iterator[Entry]:
    """Yield the first entry of every source and degradation, then the second of each, and on."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.exhibit.source, entry.medium), []).append(entry)
    for turn in zip_longest(*groups.values()):
        yield from (entry for entry in turn if entry is not None)


def _thumb(place: int, entry: Entry) -> Markup:
    exhibit = entry.exhibit
    return element(
        "button",
        element("span", exhibit.clip),
        element("span", entry.medium, class_="further"),
        type="button",
        aria_pressed="true" if place == 0 else "false",
        data_show=f"clip-{place}",
    )


def _exhibit(place: int, entry: Entry) -> Markup:
    exhibit = entry.exhibit
    frames = f"{exhibit.frames} frame{'s' if exhibit.frames > 1 else ''}"
    said = f"{entry.medium} · {exhibit.width} × {exhibit.height} · {frames}"
    width = exhibit.width * max(1, WIDE // exhibit.width)
    stills = element("div", _stills(entry), class_="stills")
    parts = [element("h3", exhibit.clip, " ", element("span", said, class_="further"))]
    parts.append(_slider(entry))
    if exhibit.frames > 1:
        parts += [
            element("h4", f"Flicker: row {exhibit.row} of every frame"),
            element("div", *_figures(entry, "rows"), class_="strips"),
            _fold("Film", _film(entry)),
        ]
    parts.append(_fold("Stills", stills, open=""))
    style = f"--wide: {width}px; --shape: {exhibit.width} / {exhibit.height}"
    return element("article", *parts, class_="exhibit", id=f"clip-{place}", style=style)


def _fold(title: str, content: Markup, **attributes: str) -> Markup:
    return element("details", element("summary", title), content, **attributes)


def _score(name: str, each: Shown) -> str:
    if name == "clean":
        return name
    return f"{name}, exact" if each.psnr is None else f"{name}, {each.psnr:.2f} dB"


def _picture(file: Path, alt: str, **attributes: str | None) -> Markup:
    kind = "jpeg" if file.suffix in (".jpg", ".jpeg") else file.suffix.removeprefix(".")
    content = base64.b64encode(file.read_bytes()).decode()
    return element(
        "img",
        src=f"data:image/{kind};base64,{content}",
        alt=alt,
        loading="lazy",
        decoding="async",
        **attributes,
    )


def _slider(entry: Entry) -> Markup:
    """Return the slider without its pictures, which the script takes from the stills."""
    options = [(str(place), _score(*output)) for place, output in enumerate(entry.outputs)]
    learnt = [
        (each.psnr or 0.0, place)
        for place, (name, each) in enumerate(entry.outputs)
        if name not in ENDS
    ]
    right = str(max(learnt)[1]) if learnt else options[-1][0]
    chosen = {"Left": options[0][0], "Right": right}
    sides = [
        element(
            "label",
            f"{side} ",
            element(
                "select",
                *(
                    element("option", text, value=value, selected="" if value == at else None)
                    for value, text in options
                ),
                data_side=side.lower(),
            ),
        )
        for side, at in chosen.items()
    ]
    name = f"Divider between left and right of {entry.exhibit.clip}, per cent from the left"
    divider = element("input", type="range", min=0, max=100, step=1, value=50, aria_label=name)
    view = element("div", class_="view")
    below = element("div", *sides, class_="controls sides")
    return element("div", below, view, divider, class_="slider needs-script")


def _stills(entry: Entry) -> Markup:
    exhibit = entry.exhibit
    return joined(
        element(
            "figure",
            _picture(
                each.still,
                f"{exhibit.clip}, one frame: {name}",
                width=str(exhibit.width),
                height=str(exhibit.height),
            ),
            element("figcaption", _score(name, each)),
        )
        for name, each in entry.outputs
    )


def _figures(entry: Entry, kind: Literal["film", "rows"]) -> Iterator[Markup]:
    """Yield a strip per output; the script shows those of both sides of the slider, and clean."""
    exhibit = entry.exhibit
    height = f"height: {exhibit.frames * exhibit.row_height}px" if kind == "rows" else None
    what = f"row {exhibit.row} of every frame" if kind == "rows" else "frames over time"
    for place, (name, each) in enumerate(entry.outputs):
        yield element(
            "figure",
            element("figcaption", name),
            _picture(
                each.film if kind == "film" else each.rows,
                f"{exhibit.clip}, {what}: {name}",
                style=height,
            ),
            data_output="always" if name == "clean" else str(place),
        )


def _film(entry: Entry) -> Markup:
    """Return the film strips in one box, so that they scroll together."""
    return element(
        "div",
        *_figures(entry, "film"),
        class_="scroll film",
        tabindex=0,
        role="region",
        aria_label=f"Film strips of {entry.exhibit.clip}",
    )
