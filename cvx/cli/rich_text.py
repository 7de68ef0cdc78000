"""Tables and trees for terminals, laid out by Rich. The only file that knows Rich.

Imported when there is something to show on a terminal, since Rich takes longer to import than most commands to run.
Pipes get plain columns instead (`Output.table`), which other programs can cut.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

_MARK_STYLES = {"+": "green", "-": "red", "~": "yellow"}


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]], *, color: bool) -> str:
    """A table as wide as it needs to be, at most as the terminal: long cells fold. Numbers stand to the right."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        cells = [row[index] for row in rows if row[index]]
        numeric = bool(cells) and all(cell.replace(",", "").replace(".", "", 1).isdigit() for cell in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return _rendered(table, color)


def tree_text(
    title: str, groups: Iterable[tuple[str, Sequence[tuple[str, str, str]]]], *, color: bool
) -> str:
    """A tree of two levels: groups, and in each entries of mark (+, -, ~), name and detail."""
    tree = Tree(Text(title), guide_style="dim")
    for name, entries in groups:
        branch = tree.add(Text(name, style="bold"))
        for mark, entry, detail in entries:
            line = Text.assemble((mark, _MARK_STYLES.get(mark, "")), " ", entry)
            if detail:
                line.append(f"  {detail}", style="dim")
            branch.add(line)
    return _rendered(tree, color)


def _rendered(what: Table | Tree, color: bool) -> str:
    console = Console(
        file=io.StringIO(),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        width=max(40, shutil.get_terminal_size((100, 24)).columns),
        legacy_windows=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(what)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
