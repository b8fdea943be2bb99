"""HTML made of elements: text is escaped unless it is `Markup`, so that no name can break a page.

    element("td", "a < b", class_="n")      ->      <td class="n">a &lt; b</td>

What is put together by `+` or an f-string is plain text again, and is escaped: forgetting to call
`joined` shows tags on the page, never runs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Literal, NamedTuple

VOID = frozenset({"img", "input"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Head(NamedTuple):
    """A column of a table.

    Args:
        title: what stands above it.
        better: +1 where higher is better, -1 where lower is, 0 else: where sorting begins.
        kind: "text", "number", or "more", numbers that are shown on demand.
        order: how the lines are sorted by it as they stand, "ascending" or "descending".
    """

    title: str
    better: Literal[-1, 0, 1] = 0
    kind: Literal["text", "number", "more"] = "number"
    order: Literal["ascending", "descending"] | None = None


class Cell(NamedTuple):
    """What a table shows, the value by which it is sorted (None stays last), and its mark."""

    shown: str
    value: float | str | None
    mark: Literal["", "best", "noise"] = ""


def joined(parts: Iterable[str]) -> Markup:
    """Return the parts in a row, those escaped that are not `Markup`."""
    return Markup("".join(p if isinstance(p, Markup) else escape(p) for p in parts))


def element(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return `<name attributes>children</name>`.

    Of the keyword arguments, `class_` becomes `class` and `aria_label` `aria-label`; what is None
    is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def choice(key: str, title: str, options: Sequence[tuple[str, str]]) -> Markup:
    """Return a labelled select; the script shows what has `data-<key>` of the chosen value.

    Args:
        key: shared by all selects that follow each other.
        title: the label.
        options: value and text. Of fewer than two there is nothing to choose, and no select.
    """
    if len(options) < 2:
        return Markup("")
    listed = [element("option", text, value=value) for value, text in options]
    return element(
        "label", title, " ", element("select", *listed, data_choose=key), class_="needs-script"
    )


def table(
    caption: str, heads: Sequence[Head], lines: Sequence[Sequence[Cell]], class_: str = ""
) -> Markup:
    """Return a table in a box that scrolls by itself; the script makes its columns sort.

    Args:
        caption: what the table says, for all who cannot see what stands above it.
        heads: of the columns; the first one names the lines.
        lines: cells, one per head.
        class_: further classes of the table.
    """
    above = [
        element(
            "th",
            head.title,
            scope="col",
            aria_sort=head.order,
            data_better=head.better,
            class_=_kind(head),
        )
        for head in heads
    ]
    body = [
        element(
            "tr",
            element("th", line[0].shown, scope="row", data_v=line[0].value),
            *(_cell(cell, head) for cell, head in zip(line[1:], heads[1:], strict=True)),
        )
        for line in lines
    ]
    made = element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", element("tr", *above)),
        element("tbody", *body),
        class_=f"sortable {class_}".rstrip(),
    )
    return element("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _kind(head: Head) -> str | None:
    return {"text": None, "number": "n", "more": "n more"}[head.kind]


def _cell(cell: Cell, head: Head) -> Markup:
    shown, value = cell.shown, cell.value
    if cell.mark == "best":
        shown = element("strong", shown)
    elif cell.mark == "noise":
        shown = joined([shown, element("abbr", " ~", title="within noise of the best")])
    sorted_by = f"{value:.7g}" if isinstance(value, float) else value
    return element("td", shown, class_=_kind(head), data_v=sorted_by)
