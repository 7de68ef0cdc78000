"""Text and vector search as apps use them, and their indexes in pushes of the official command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.driving import HERE, drive, running
from tests.apps.guides import blocks_missing
from tests.compat.official_cli import OfficialCli

pytestmark = [pytest.mark.deno, pytest.mark.node]
APP = HERE / "search"


def test_the_guides_code_is_the_apps() -> None:
    assert blocks_missing("search", APP) == []


def test_through_the_official_clients(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        print(drive(folder / "drive.mjs", backend))


FIRST = """
import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
const texts = { body: v.string(), place: v.array(v.float64()), kind: v.string() };
export default defineSchema({ texts: defineTable(texts)%s });
"""
FUNCTIONS = """
import { mutationGeneric as mutation, queryGeneric as query, actionGeneric as action } from "convex/server";
export const fill = mutation({ handler: async ({ db }) => {
  for (let n = 0; n < 300; n++) {
    await db.insert("texts", { body: `common word${n}`, place: [n, 1, 0], kind: n % 2 ? "odd" : "even" });
  }
} });
export const search = query({ handler: async ({ db }, { words }: any) => {
  const found = await db.query("texts").withSearchIndex("by_body", (q: any) => q.search("body", words)).take(3);
  return found.map(({ body }) => body);
} });
export const near = action({ handler: async (ctx, { place, kind }: any) =>
  (await ctx.vectorSearch("texts", "by_place", { vector: place, limit: 3, filter: kind && ((q: any) => q.eq("kind", kind)) })).map(({ _score }) => _score),
});
"""
SEARCH = '.searchIndex("by_body", { searchField: "body"%s })'
VECTOR = '.vectorIndex("by_place", { vectorField: "place", dimensions: 3, filterFields: ["kind"]%s })'


def test_indexes_of_existing_data_in_official_pushes(tmp_path: Path) -> None:
    with running(APP, tmp_path) as (backend, folder):
        for file in (folder / "convex").glob("*.ts"):
            file.unlink()
        cli = OfficialCli(folder, backend)

        def push(indexes: str, *arguments: str) -> str:
            (folder / "convex" / "schema.ts").write_text(FIRST % indexes)
            (folder / "convex" / "texts.ts").write_text(FUNCTIONS)
            ran = cli("deploy", "--typecheck", "disable", "--codegen", "disable", "-y", *arguments)
            return ran.stdout + ran.stderr

        push("")
        backend.call("mutation", "texts:fill", {})
        said = push(SEARCH % ", staged: true" + VECTOR % ", staged: true")
        assert "[+] texts.by_body" in said and "[+] texts.by_place" in said
        for call in (
            ("query", "texts:search", {"words": "word7"}),
            ("action", "texts:near", {"place": [1, 0, 0]}),
        ):
            with pytest.raises(AssertionError, match="currently staged"):
                backend.call(*call)
        said = push(SEARCH % "" + VECTOR % "")
        assert "now enabled" in said and "texts.by_body" in said
        assert backend.call("query", "texts:search", {"words": "word7"}) == [
            "common word7",
            "common word79",
            "common word78",
        ]
        near = backend.call("action", "texts:near", {"place": [1, 0, 0]})
        assert near == sorted(near, reverse=True) and near[0] > 0.99999
        assert backend.call("action", "texts:near", {"place": [0, 1, 0], "kind": "even"})[0] == 1.0
        # A changed definition is built beside the one in use, and takes its place.
        said = push(SEARCH % ', filterFields: ["kind"]' + VECTOR % "")
        assert "[-] texts.by_body" in said and "[+] texts.by_body" in said
        assert backend.call("query", "texts:search", {"words": "word29"})[0] == "common word29"
        # An import replaces the table with its indexes.
        rows = "".join(f'{{"body":"imported row{n}","place":[0,{n},1],"kind":"odd"}}\n' for n in range(50))
        (folder / "rows.jsonl").write_text(rows)
        cli("import", "--table", "texts", "--replace", "-y", "rows.jsonl")
        assert backend.call("query", "texts:search", {"words": "common"}) == []
        assert backend.call("query", "texts:search", {"words": "row49"}) == ["imported row49"]
        assert backend.call("action", "texts:near", {"place": [0, 0, 1], "kind": "odd"})[0] == 1.0
        said = push("")
        assert "[-] texts.by_body" in said and "[-] texts.by_place" in said
        with pytest.raises(AssertionError, match=r"Index texts\.by_body not found"):
            backend.call("query", "texts:search", {"words": "row"})
