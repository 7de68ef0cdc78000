"""The guides' code is the tested apps' code: every TypeScript block of a guide is found in its app, line for line."""

from __future__ import annotations

import re
from pathlib import Path

GUIDES = Path(__file__).resolve().parents[2] / "docs" / "guide"
_BLOCK = re.compile(r"^```(?:ts|tsx|js)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SUFFIXES = {".ts", ".tsx", ".js", ".mjs"}


def blocks_missing(guide: str, app: Path) -> list[str]:
    """The code blocks of `docs/guide/<guide>.md` that are in no file of `app`. A first line `// path` is the file's
    name, and `// …` stands for what is left out."""
    texts = [
        path.read_text()
        for path in app.rglob("*")
        if path.suffix in _SUFFIXES and not {"node_modules", "_generated"} & set(path.parts)
    ]
    blocks = _BLOCK.findall((GUIDES / f"{guide}.md").read_text())
    assert blocks, f"{guide}.md shows no code"
    missing = []
    for block in blocks:
        named = re.sub(r"\A// \S+\.\w+\n+", "", block)
        for piece in named.split("// …\n"):
            if not any(piece.strip("\n") in text for text in texts):
                missing.append(piece)
    return missing
