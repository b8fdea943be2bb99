"""From rows to tables, plots and pictures; it reads results and nothing else of the package.

    runs/**/rows.csv ──collect──► rows ──summarise──► a line per model ──spread──► mean ± std

`print_table` shows lines on a terminal, `write_report` makes a report of them (Markdown, CSV, PNG),
`write_page` one that is a single HTML file, to sort, to look at and to share.
"""

from unlossy.report.markdown import write_report
from unlossy.report.page import write_page
from unlossy.report.rows import Row, collect, read_rows
from unlossy.report.table import print_table, spread, summarise

__all__ = [
    "Row",
    "collect",
    "print_table",
    "read_rows",
    "spread",
    "summarise",
    "write_page",
    "write_report",
]
