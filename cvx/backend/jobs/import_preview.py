"""What an import would change, in words and numbers.

Source: reference/cli-and-deploy.md §5.3 (change preview).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_REMARK = "Once the import has started, it will run in the background.\nInterrupting this command will not cancel it."


@dataclass(frozen=True, slots=True)
class PreviewLine:
    """One table: documents that come, and of how many there are how many go. `unit`: " files" for stored files."""

    component: str
    table: str
    create: int
    delete: int
    existing: int
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "component": self.component,
            "table": self.table,
            "create": float(self.create),
            "delete": float(self.delete),
            "existing": float(self.existing),
        }


def preview_text(lines: Sequence[PreviewLine]) -> str:
    """The message that command lines show before they ask."""
    parts = ["Import change summary:"]
    cells = {
        line: (line.table, f"{line.create:,}", f"{line.delete:,} of {line.existing:,}{line.unit}")
        for line in lines
    }
    header = ("table", "create", "delete")
    widths = [max(map(len, column)) for column in zip(header, *cells.values(), strict=True)]

    def row(texts: Sequence[str]) -> str:
        return " | ".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)) + " |"

    component: str | None = None
    for line in lines:
        if line.component != component:
            component = line.component
            if component:
                parts.append(f"Component {component}")
            parts += [row(header), "-" * len(row(header))]
        parts.append(row(cells[line]))
    return "\n".join([*parts, _REMARK])
