"""Tables in committed Markdown that are made from committed CSV, and the test that they still are.

    <!-- table rows.csv source=bunny models="input | ccdnet grad = CCDNet" columns="psnr | ssim" -->
    (what `make table` writes)
    <!-- /table -->

    a is ahead <!-- paired rows.csv pairs="a - b" columns=psnr -->(what it writes)<!-- /paired -->

The file lies beside the Markdown. `table` has a line per model, means over clips and then over
seeds, the best of a column bold; `paired` one per pair, by the bootstrap of `paired.py`, of a file
with a column `loss`: rows where it is not empty are of a trained model. A region without a line
break inside holds the one comparison that it asks for, to be read in a sentence.

    models    which, in this order; `name = shown as`; all if left out. A name is the model's in
              the file, with loss and setting where it needs them to be the only one
    columns   `key`, `key:.3f = title`, or `{key:.2f} ({other:.2f}) = title`: of the latter the
              first number alone where another is missing. From two seeds on ± their deviation
              stands behind a number that has a better and a worse, and behind the first one of
              the latter, 31.78 ± 0.02 (31.39), unless it names a `key_seeds_std` itself
    across    `degradation: gif = D = 1 | ...`: a block of columns for each value of a column
    pairs     `a - b | c - d`; every pair of the models if left out
    title     at the head of the first column; may name `{clips}`, `{frames}` of the first line

Any other option keeps the rows whose column of that name holds this text. Clips of all sources that
are kept count alike.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from unlossy.errors import UserError
from unlossy.report import paired
from unlossy.report.rows import TEXT, Row, add_gains, grouped, label, number
from unlossy.report.table import COLUMNS as STANDARD
from unlossy.report.table import FLICKER, MEANS, PICTURES, Column, cell_text, marks, spread
from unlossy.report.table import filled_columns as filled

REGION = re.compile(
    r"(?P<head><!-- (?P<kind>table|paired)\s+(?P<file>\S+\.csv)(?P<options>.*?)\s*-->)"
    r"(?P<body>.*?)(?P<tail><!-- /(?P=kind) -->)",
    re.DOTALL,
)
OPTIONS = ("models", "columns", "across", "pairs", "title")
NOT_AVERAGED = {"frames", "exact", "seed", "clips", "canvases"}
FIELD = re.compile(r"{(\w+)(?::([^{}]*))?}")


@dataclass(frozen=True)
class Region:
    """What a marker asks for: its file, the rows to keep, and the options above."""

    kind: str
    file: Path
    kept: Mapping[str, str]
    options: Mapping[str, str]
    inline: bool


def refreshed(path: Path, found_at: Callable[[Path], Path] = Path) -> str:
    """Return the text of a Markdown file with every region made anew.

    Args:
        path: of the Markdown.
        found_at: from a CSV file to the one that is read in its place.

    Raises:
        UserError: a region asks for what its file has not.
    """

    def made(match: re.Match[str]) -> str:
        inline = "\n" not in match["body"]
        place = f"{path}, {' '.join(match['head'].split())}"
        try:
            text = _made(_region(match, found_at(path.parent / match["file"]), inline))
        except UserError as error:
            raise UserError(f"{place}: {error}") from error
        except ValueError as error:
            raise UserError(
                f"{place}: cannot be made of {match['file']} ({error}); ask for columns of "
                "numbers, digits written as .2f."
            ) from error
        body = text if inline else f"\n\n{text}\n\n"
        return f"{match['head']}{body}{match['tail']}"

    return REGION.sub(made, path.read_text(encoding="utf-8"))


def rewrite(root: Path) -> list[Path]:
    """Make every table of the Markdown files under `root` anew; return the files that changed."""
    changed = stale(root)
    for path in changed:
        path.write_text(refreshed(path), encoding="utf-8")
    return changed


def stale(root: Path) -> list[Path]:
    """Return the Markdown files whose tables are not what their CSV files say."""
    return [path for path in pages(root) if refreshed(path) != path.read_text(encoding="utf-8")]


def pages(root: Path) -> list[Path]:
    """Return the Markdown files of a repository that may have tables."""
    patterns = ("*.md", "docs/**/*.md", "experiments/**/*.md")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def _region(match: re.Match[str], file: Path, inline: bool) -> Region:
    options: dict[str, str] = {}
    try:
        words = shlex.split(match["options"])
    except ValueError as error:
        raise UserError('a quote is left open; write key="two words".') from error
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise UserError(f'{word} is no option; write key=value, or key="two words".')
        options[key] = value
    kept = {key: options.pop(key) for key in list(options) if key not in OPTIONS}
    return Region(match["kind"], file, kept, options, inline)


def _made(region: Region) -> str:
    rows = _rows(region)
    if region.kind == "table":
        return _table(region, rows)
    names, pairs = _pairs(region, rows)
    columns = _columns(region, rows)
    if not region.inline:
        return paired.table(pairs, columns, names, region.options.get("title", ""))
    if len(pairs) != 1:
        raise UserError(f"a sentence has room for one comparison, not {len(pairs)}.")
    return pairs[0].text(columns[0].form).replace("**", "")


def _rows(region: Region) -> list[Row]:
    """Return the rows that are kept, numbers as such, with their gains over the input."""
    try:
        with region.file.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"cannot read {region.file.name} ({error.strerror}).") from error
    if not rows:
        raise UserError(f"{region.file.name} has no rows.")
    if any(None in row or None in row.values() for row in rows):
        raise UserError(f"a line of {region.file.name} has more or fewer cells than its head.")
    if "model" not in rows[0]:
        raise UserError(f"{region.file.name} has no column model.")
    if region.kind == "paired" and "loss" not in rows[0]:
        raise UserError(
            f"{region.file.name} has no column loss, which tells trained rows, where it is not "
            "empty, from others; add it."
        )
    for key, value in region.kept.items():
        if key not in rows[0]:
            raise UserError(f"{key} is neither an option nor a column of {region.file.name}.")
        rows = [row for row in rows if row[key] == value]
        if not rows:
            raise UserError(f"no row has {key}={value}.")
    texts = {*TEXT, _across(region)[0]}
    found: list[Row] = [
        dict.fromkeys(TEXT, "")
        | {key: cell if key in texts else _cell(cell) for key, cell in row.items()}
        for row in rows
    ]
    add_gains(found)
    return found


def _cell(cell: str) -> str | float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


def _listed(text: str) -> dict[str, str]:
    """Return what `a = shown | b` lists: {a: shown, b: b}."""
    parts = (part.strip().partition(" = ") for part in text.split("|"))
    return {key.strip(): shown.strip() or key.strip() for key, _, shown in parts}


def _by_model(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the rows by the label of their model.

    Raises:
        UserError: they are of several degradations, which nobody means to average.
    """
    rows = list(rows)
    if len(media := {row["degradation"] for row in rows}) > 1:
        raise UserError(f'choose one degradation="...": {", ".join(sorted(media))}.')
    return {label(found[0]): found for found in grouped(rows, "model", "loss", "setting").values()}


def _label(name: str, labels: Iterable[str]) -> str:
    """Return the label of the only model that goes by a name.

    Raises:
        UserError: no model does, or several.
    """
    labels = list(labels)
    found = [name] if name in labels else [one for one in labels if one.split(" ")[0] == name]
    if len(found) != 1:
        raise UserError(f"{name} is not one model; there are {', '.join(labels)}.")
    return found[0]


def _names(region: Region, labels: Sequence[str]) -> dict[str, str]:
    """Return how each model is shown, by label, in the order asked for."""
    asked = _listed(region.options["models"]) if "models" in region.options else {}
    return {_label(name, labels): shown for name, shown in asked.items()} or {
        name: name for name in labels
    }


def _columns(region: Region, rows: Sequence[Row]) -> list[Column]:
    """Return the columns; a template of several numbers is the `form` of its first."""
    known = {column.key: column for column in (*STANDARD, *FLICKER, *PICTURES)}
    if "columns" not in region.options:
        return list(paired.COLUMNS) if region.kind == "paired" else filled(rows, STANDARD)
    found = []
    for asked, title in _listed(region.options["columns"]).items():
        fields = _fields(asked) or [(*asked.partition(":")[::2],)]
        for name, _ in fields:
            _check_column(region, rows, name.removesuffix("_seeds_std"), known)
        key, form = fields[0]
        column = known.get(key, Column(key, key, ".3f", 0))
        form = asked if "{" in asked else form or column.form
        title = column.title if title == asked else title
        found.append(replace(column, title=title, form=form, beside=""))
    return found


def _check_column(
    region: Region, rows: Iterable[Row], name: str, known: Mapping[str, Column]
) -> None:
    """Check that a column holds numbers; that of a known metric may hold nothing.

    Raises:
        UserError: it does not.
    """
    values = [row[name] for row in rows if row.get(name) is not None]
    if any(isinstance(value, str) for value in values) or not (values or name in known):
        raise UserError(f"{region.file.name} has no column {name} of numbers.")


def _fields(template: str) -> list[tuple[str, str]]:
    """Return name and digits of every `{name:digits}` of a text.

    Raises:
        UserError: it has other braces.
    """
    if set("{}") & set(FIELD.sub("", template)):
        raise UserError(f"{template} has braces that name no column; write {{psnr:.2f}}.")
    return FIELD.findall(template)


def _across(region: Region) -> tuple[str, dict[str, str]]:
    """Return the column of `across` and how each value is shown; no column without it."""
    key, _, values = region.options.get("across", "").partition(":")
    return key.strip(), _listed(values)


def _blocks(region: Region, rows: Sequence[Row]) -> dict[str, Sequence[Row]]:
    """Return the rows of each block of columns by its title.

    Raises:
        UserError: there is no such column, or no row for a block.
    """
    if "across" not in region.options:
        return {"": rows}
    key, values = _across(region)
    if key not in rows[0]:
        raise UserError(f'{region.file.name} has no column "{key}" to make blocks across.')
    blocks: dict[str, Sequence[Row]] = {}
    for value, shown in values.items():
        blocks[shown] = [{**row, key: ""} for row in rows if row[key] == value]
        if not blocks[shown]:
            raise UserError(f"no row has {key}={value}, which across makes a block of.")
    return blocks


def _title(region: Region, line: Row) -> str:
    """Return what stands at the head of the first column.

    Raises:
        UserError: it names what a line has not.
    """
    title = region.options.get("title", "model")
    for name, _ in _fields(title):
        if line.get(name) is None:
            raise UserError(f"title names {{{name}}}; it may name {{clips}} and {{frames}}.")
    return title.format(**line)


def _table(region: Region, rows: Sequence[Row]) -> str:
    """Return the Markdown table of a region, a block of columns per value of `across`."""
    lines = {block: _lines(members) for block, members in _blocks(region, rows).items()}
    names = _names(region, list(dict.fromkeys(name for each in lines.values() for name in each)))
    first = [*next(iter(lines.values())).values()]
    columns = _columns(region, [line for each in lines.values() for line in each.values()])
    table = [[_title(region, first[0])], *([shown] for shown in names.values())]
    for block, members in lines.items():
        for column in columns:
            named = block and len(columns) == 1
            table[0].append(block if named else f"{block} {column.title}".strip())
            if not (chosen := [members[name] for name in names if name in members]):
                raise UserError(f"there is no row of these models for the block {block}.")
            texts = {
                label(line): _text(line, column, m)
                for line, m in zip(chosen, marks(chosen, column), strict=True)
            }
            for cells, name in zip(table[1:], names, strict=True):
                cells.append(texts.get(name, ""))
    table.insert(1, ["---", *("---:" for _ in table[0][1:])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _lines(rows: Iterable[Row]) -> dict[str, Row]:
    """Return the mean of every number over clips and seeds, by the label of the model."""
    rows = [{**row, "source": ""} for members in _by_model(rows).values() for row in members]
    cells = [(key, cell) for row in rows for key, cell in row.items() if cell is not None]
    numbers = {key for key, _ in cells} - {key for key, cell in cells if isinstance(cell, str)}
    means = (*MEANS, *sorted(numbers - NOT_AVERAGED - {*MEANS}))
    return {label(line): line for line in spread(rows, means)}


def _text(line: Row, column: Column, mark: str) -> str:
    """Return a cell, set as its mark wants it."""
    if "{" not in column.form:
        text = cell_text(line, column)
    elif number(line, column.key) is None:
        text = ""
    else:
        text = _filled(line, column)
    return {"": "{}", "best": "**{}**", "noise": "{} ~"}[mark].format(text) if text else ""


def _filled(line: Row, column: Column) -> str:
    """Return a template with its numbers, ± of the seeds behind the first.

    That first number stands alone where another is missing.
    """
    fields, first = _fields(column.form), next(FIELD.finditer(column.form))
    before, after = column.form[: first.start()], column.form[first.end() :]
    if any(number(line, key) is None for key, _ in fields):
        before = after = ""
    said = any(key.endswith("_seeds_std") for key, _ in fields)
    key, digits = f"{column.key}_seeds_std", fields[0][1].lstrip("+")
    deviation = "" if said or number(line, key) is None else f" ± {line[key]:{digits}}"
    return f"{before}{first[0]}{deviation}{after}".format(**line)


def _pairs(region: Region, rows: Iterable[Row]) -> tuple[dict[str, str], list[paired.Comparison]]:
    """Return how models are shown, and the comparisons that a region asks for.

    Raises:
        UserError: a pair names no model of the file, or the two share no clip.
    """
    models = _by_model(rows)
    names = _names(region, list(models)) if "models" in region.options else {}
    pairs = list(combinations(names or models, 2))
    if "pairs" in region.options:
        asked = [pair.partition(" - ")[::2] for pair in _listed(region.options["pairs"])]
        pairs = [(_label(first, models), _label(second, models)) for first, second in asked]
        names = {_label(name, models): name for pair in asked for name in pair} | names
    columns = _columns(region, [row for members in models.values() for row in members])
    found = []
    for first, second in pairs:
        compared = [paired.compare(models[first], models[second], each) for each in columns]
        if not any(compared):
            raise UserError(f"{first} and {second} have no clip in common.")
        found += [one for one in compared if one]
    return names, found
