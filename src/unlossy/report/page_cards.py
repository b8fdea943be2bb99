"""What stands behind the numbers of the page: sweeps with their failed jobs, and run cards."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unlossy.errors import UserError
from unlossy.report.markup import Cell, Head, Markup, element, joined, table
from unlossy.report.rows import Run, public

SWEEP = "sweep.csv"
NUMBERS = ("objective", "seconds")
COPIES = ("source", "degradation", "seed")  # settings that the data module repeats


def sweeps(root: Path) -> Markup:
    """Return a table of jobs per `sweep.csv` under `root`; nothing where there is none.

    Raises:
        UserError: one of them cannot be read.
    """
    parts = []
    for path in sorted(root.rglob(SWEEP)):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.reader(file)
                header, *lines = [cells for cells in reader if cells] or [[]]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"Cannot read {path} as CSV ({error}); remove it.") from error
        jobs = [dict(zip(header, public(cells, root), strict=False)) for cells in lines]
        if "status" in header and jobs:
            parts.append(_sweep(path.parent.relative_to(root).as_posix(), header, jobs))
    return joined(parts)


def _sweep(name: str, header: Sequence[str], jobs: Sequence[Mapping[str, str]]) -> Markup:
    statuses = [job.get("status", "") for job in jobs]
    counts = ", ".join(f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses))
    heads = [Head(key, kind="number" if key in NUMBERS else "text") for key in header]
    ordered = sorted(jobs, key=lambda job: job.get("status") == "finished")
    lines = [[_job_cell(key, job.get(key, "")) for key in header] for job in ordered]
    title = f"{'jobs' if name == '.' else name}: {counts}"
    return joined([element("h3", title), table(f"Jobs of {title}", heads, lines, "jobs")])


def _job_cell(key: str, text: str) -> Cell:
    if key == "status" and text != "finished":
        return Cell(element("strong", text, class_="unfinished"), text)
    if key in NUMBERS:
        try:
            value = float(text)
        except ValueError:
            return Cell(text, None)
        return Cell(f"{value:#.6g}" if key == "objective" else f"{value:.0f}", value)
    shown = element("span", text, class_="long") if key == "error" and text else text
    return Cell(shown, text or None)


def cards(runs: Sequence[Run], root: Path) -> Markup:
    """Return a folded card per run, newest first."""
    return joined(_card(run, root) for run in reversed(runs))


def _card(run: Run, root: Path) -> Markup:
    card, name = public(run.card, root), run.folder.relative_to(root).as_posix()
    facts = {
        "seed": card.get("seed"),
        "revision": card.get("git"),
        "unlossy": card.get("unlossy"),
        "started": card.get("started"),
        "device": card.get("device"),
        "seconds": card.get("seconds"),
        "steps": card.get("steps"),
        "data digest": _within(card.get("data"), "digest"),
        "checkpoint": card.get("checkpoint"),
    }
    parts = [_list(facts)]
    choices = {
        key: value
        for key, value in _mapping(card.get("choices")).items()
        if value is not None and not key.startswith("hydra/")
    }
    if choices:
        command = " ".join(shlex.quote(part) for part in _command(card, choices))
        parts += [
            element("h3", "Command"),
            element("pre", element("code", command), tabindex=0),
            element(
                "p",
                "Its choices and seed; settings that were typed one by one are in the "
                "configuration below.",
                class_="note",
            ),
            element("h3", "Choices"),
            _list(choices),
        ]
    for title, key in (("Filters, as fitted", "filters"), ("Versions", "versions")):
        if content := _mapping(card.get(key)):
            parts += [element("h3", title), _list(content)]
    if config := _mapping(card.get("config")):
        text = "\n".join(_outline(_without_copies(config)))
        parts += [element("h3", "Configuration"), element("pre", text, tabindex=0)]
    summary = element(
        "summary",
        element("span", name, class_="model"),
        element("span", " ", _said(card), class_="further"),
    )
    return element("details", summary, *parts, class_="card")


def _said(card: Mapping[str, Any]) -> str:
    choices = _mapping(card.get("choices"))
    facts = [" ".join(str(choices[key]) for key in ("model", "loss") if choices.get(key))]
    if card.get("seed") is not None:
        facts.append(f"seed {card['seed']}")
    if (seconds := card.get("seconds")) is not None:
        facts.append(f"{float(seconds):.0f} s")
    return " · ".join(filter(None, [*facts, str(card.get("git") or "")]))


def _list(facts: Mapping[str, Any]) -> Markup:
    known = {key: value for key, value in facts.items() if value is not None}
    pairs = [
        element("div", element("dt", key), element("dd", str(value)))
        for key, value in known.items()
    ]
    return element("dl", *pairs)


def _command(card: Mapping[str, Any], choices: Mapping[str, Any]) -> Iterator[str]:
    """Yield the words of the command that makes the same choices."""
    config = _mapping(card.get("config"))
    trains = "trainer" in choices
    yield from ("python", "train.py" if trains else "eval.py")
    if not trains and card.get("checkpoint"):
        yield f"ckpt={card['checkpoint']}"
    for key, value in choices.items():
        package = key.partition("@")[2]
        if key != "local" and not (package and package.rpartition(".")[2] == value):
            yield f"{key}={value}"
    if config.get("seed") is not None:
        yield f"seed={config['seed']}"


def _mapping(node: Any) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}


def _within(node: Any, key: str) -> Any:
    return _mapping(node).get(key)


def _without_copies(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration without what its data module repeats of it."""
    data = _mapping(config.get("data"))
    kept = {
        key: value
        for key, value in data.items()
        if not (key in COPIES and key in config and config[key] == value)
    }
    return {**config, "data": kept} if data else dict(config)


def _outline(node: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield lines of `key: value`, a list in one line."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:"
            yield from _outline(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}"
