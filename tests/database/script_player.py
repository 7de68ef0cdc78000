"""Plays a database script: `> a insert users {"name": "Ada"}` and so on, on a real database with a fake clock.

The first word is the actor: a transaction's name, or `db`. Documents get labels (u1, u2: the first letter of
their table) as they are inserted; commits are counted @1, @2 …; cursors are named as they appear (c1, c2; END).

    a begin · a commit · a close · a get u1 · a insert users {…} · a patch u1 {…} · a replace u1 {…} · a delete u1
    a query users[.index] [field op value …] [desc] [filter {…}] [limit n] · a take n · a stop
    a search texts.by_body "words" [field = value …] [filter {…}] [limit n]: as `query`
    a near places.by_place [1,0] [limit n] [filter {…}]: in the latest state
    a page [size n] [from c1] [to c2] [rows n] [bytes n]: of the last query of a · a count users
    a savepoint s · a rollback s · a release s
    db index users.by_age age,name [staged] · db text texts.by_body body [channel,…] [staged] [held]
    db vector places.by_place place 2 [kind,…] [staged] [held] · db enable users.by_age · db stage … · db drop …
    db schema {…} · db activate · db subscribe a name · db tick seconds · db delete users · db hold · db wait
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvx.backend.config import Limits
from cvx.backend.database import Database, QueryStream, Transaction, definitions, maintenance
from cvx.errors import ConflictError, CvxError
from cvx.protocol.schema import DatabaseIndex, Index, SearchIndex, VectorIndex
from cvx.values import DocumentId, decode, encode, from_json, print_value

_OPS = {"=": "Eq", ">": "Gt", ">=": "Gte", "<": "Lt", "<=": "Lte"}


class FakeClock:
    """Moves one millisecond every time it is looked at."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000_000_000_000

    def now_ns(self) -> int:
        self.ns += 1_000_000
        return self.ns


class Player:
    def __init__(self, folder: Path, limits: Limits) -> None:
        self.loop = asyncio.new_event_loop()
        # Background work begins when the script says so: `db hold`, and `db wait` lets it go on.
        self.free_to_work = asyncio.Event()
        self.free_to_work.set()
        work: Any = maintenance
        self.originals = (work.fill_index, work.first_misfit)
        work.fill_index = self.gated(work.fill_index)
        work.first_misfit = self.gated(work.first_misfit)
        self.db_folder = folder
        self.clock = FakeClock()
        self.db = self.loop.run_until_complete(Database.open(folder, clock=self.clock, limits=limits))
        self.txs: dict[str, Transaction] = {}
        self.queries: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, QueryStream] = {}
        self.savepoints: dict[str, Any] = {}
        self.labels: dict[str, DocumentId] = {}
        self.cursors: dict[str, str] = {}
        self.commits: dict[int, int] = {}
        self.told: list[str] = []
        self.pending_schema: DocumentId | None = None

    def gated(self, work: Any) -> Any:
        async def when_free(*args: Any) -> Any:
            await self.free_to_work.wait()
            return await work(*args)

        return when_free

    def close(self) -> None:
        work: Any = maintenance
        work.fill_index, work.first_misfit = self.originals
        for tx in self.txs.values():
            tx.close()
        self.loop.run_until_complete(self.db.close())
        self.loop.close()

    def play(self, stimuli: Sequence[str]) -> Iterator[str]:
        for line in stimuli:
            words = _words(line.removeprefix("> "))
            try:
                yield from (f"    {text}" for text in self.step(words))
            except ConflictError as conflict:
                details = conflict.details
                label = self.readable(str(details["document_id"]))
                what = f"{details['table']} {label}" if label in self.labels else details["table"]
                if details["table"] is None:
                    yield f"    conflict: {conflict.message}"
                else:
                    yield f"    conflict on {what}, changed by {details['write_source']}"
            except CvxError as error:
                yield f"    {error.code}: {self.readable(error.message)}"
            self.loop.run_until_complete(asyncio.sleep(0))
            yield from (f"    {text}" for text in self.told)
            self.told.clear()

    def step(self, words: list[str]) -> list[str]:
        actor, verb, *rest = words
        if actor == "db":
            return list(getattr(self, f"db_{verb}")(*rest))
        if verb == "begin":
            self.txs[actor] = self.db.begin(None, write_source=actor)
            return []
        return list(getattr(self, f"do_{verb}")(actor, self.txs[actor], *rest))

    # ------------------------------------------------------------------------------------------ transactions

    def do_commit(self, name: str, tx: Transaction) -> list[str]:
        ts = self.loop.run_until_complete(self.db.commit(tx))
        if not tx.writes:
            return ["nothing to commit"]
        return [f"committed {self.at(ts)}"]

    def do_close(self, name: str, tx: Transaction) -> list[str]:
        tx.close()
        return []

    def do_get(self, name: str, tx: Transaction, label: str) -> list[str]:
        raw = tx.get(self.labels[label])
        return ["null" if raw is None else self.shown(raw)]

    def do_insert(self, name: str, tx: Transaction, table: str, text: str) -> list[str]:
        id = tx.insert(table, self.fields(text))
        number = sum(label[0] == table[0] for label in self.labels) + 1
        self.labels[f"{table[0]}{number}"] = id
        return [f"{table[0]}{number}"]

    def do_patch(self, name: str, tx: Transaction, label: str, text: str) -> list[str]:
        return self.wrote(tx, lambda: tx.patch(self.labels[label], self.fields(text)))

    def do_replace(self, name: str, tx: Transaction, label: str, text: str) -> list[str]:
        return self.wrote(tx, lambda: tx.replace(self.labels[label], self.fields(text)))

    def do_delete(self, name: str, tx: Transaction, label: str) -> list[str]:
        return self.wrote(tx, lambda: tx.delete(self.labels[label]))

    def wrote(self, tx: Transaction, write: Any) -> list[str]:
        before = tx.usage.documents_written
        write()
        return [] if tx.usage.documents_written > before else ["(no write)"]

    def do_count(self, name: str, tx: Transaction, table: str) -> list[str]:
        return [str(tx.count(table))]

    def do_usage(self, name: str, tx: Transaction) -> list[str]:
        usage = tx.usage
        return [
            f"read {usage.documents_read} documents in {usage.intervals} ranges, wrote {usage.documents_written}"
        ]

    def do_savepoint(self, name: str, tx: Transaction, label: str) -> list[str]:
        self.savepoints[label] = tx.savepoint()
        return []

    def do_rollback(self, name: str, tx: Transaction, label: str) -> list[str]:
        tx.rollback_to(self.savepoints[label])
        return []

    def do_release(self, name: str, tx: Transaction, label: str) -> list[str]:
        tx.release(self.savepoints[label])
        return []

    # ---------------------------------------------------------------------------------------------- queries

    def do_query(self, name: str, tx: Transaction, target: str, *words: str) -> list[str]:
        query = self.queries[name] = self.parsed(target, list(words))
        stream = tx.stream(query)
        documents: list[bytes] = []
        done = False
        while not done:
            page, done = stream.next_page(3)
            documents += page
        return [self.shown(raw) for raw in documents] or ["(nothing)"]

    def do_search(self, name: str, tx: Transaction, target: str, text: str, *words: str) -> list[str]:
        query = self.queries[name] = self.parsed(target, list(words))
        table, _, index = target.partition(".")
        info = tx.catalog.index("", table, index)
        searched = info.definition.search_field if info and isinstance(info.definition, SearchIndex) else "?"
        search = {"type": "Search", "fieldPath": searched, "value": json.loads(text)}
        source = {"type": "Search", "indexName": target, "filters": [search, *query["source"]["range"]]}
        query["source"] = source
        return [self.shown(raw) for raw in map(encode, tx.collect(query))] or ["(nothing)"]

    def do_near(self, name: str, tx: Transaction, target: str, vector: str, *words: str) -> list[str]:
        options = dict(zip(words[::2], words[1::2], strict=True))
        table, _, index = target.partition(".")
        hits = self.loop.run_until_complete(
            self.db.vector_search(
                table,
                index,
                self.json(vector),
                float(options["limit"]) if "limit" in options else None,
                self.json(options["filter"]) if "filter" in options else None,
            )
        )
        labels = {id: label for label, id in self.labels.items()}
        return [f"{labels[id]} {score:.3f}" for id, score in hits] or ["(nothing)"]

    def do_open(self, name: str, tx: Transaction, target: str, *words: str) -> list[str]:
        self.streams[name] = tx.stream(self.parsed(target, list(words)))
        return []

    def do_ahead(self, name: str, tx: Transaction, want: str) -> list[str]:
        """Read ahead without the consumer having taken anything yet."""
        documents, done = self.streams[name].next_page(int(want))
        return [self.shown(raw) for raw in documents] + (["(end)"] if done else [])

    def do_took(self, name: str, tx: Transaction, total: str) -> list[str]:
        self.streams[name].consumed(int(total))
        return []

    def do_prepare(self, name: str, tx: Transaction, target: str, *words: str) -> list[str]:
        self.queries[name] = self.parsed(target, list(words))
        return []

    def do_page(self, name: str, tx: Transaction, *words: str) -> list[str]:
        options = dict(zip(words[::2], words[1::2], strict=True))
        page = tx.paginate(
            self.queries[name],
            self.cursors.get(options.get("from", ""), options.get("from")),
            self.cursors.get(options.get("to", ""), options.get("to")),
            int(options.get("size", "100")),
            int(options["rows"]) if "rows" in options else None,
            int(options["bytes"]) if "bytes" in options else None,
        )
        split = "" if page.split_cursor is None else f", split at {self.cursor(page.split_cursor)}"
        status = "" if page.page_status is None else f", {page.page_status}"
        done = ", done" if page.is_done else ""
        return [
            *(self.shown(raw) for raw in page.documents),
            f"(continue at {self.cursor(page.continue_cursor)}{split}{status}{done})",
        ]

    def parsed(self, target: str, words: list[str]) -> dict[str, Any]:
        operators: list[Any] = []
        conditions: list[Any] = []
        order = None
        while words:
            word = words.pop(0)
            if word in ("asc", "desc"):
                order = word
            elif word == "limit":
                operators.append({"limit": int(words.pop(0))})
            elif word == "filter":
                operators.append({"filter": json.loads(words.pop(0))})
            else:
                op, value = words.pop(0), words.pop(0)
                json_value = {"$undefined": None} if value == "undefined" else self.json(value)
                conditions.append({"type": _OPS[op], "fieldPath": word, "value": json_value})
        if "." not in target:
            return {
                "source": {"type": "FullTableScan", "tableName": target, "order": order},
                "operators": operators,
            }
        source = {"type": "IndexRange", "indexName": target, "order": order, "range": conditions}
        return {"source": source, "operators": operators}

    # --------------------------------------------------------------------------------------------- database

    def db_index(self, target: str, fields: str, *flags: str) -> list[str]:
        name = target.partition(".")[2]
        return self.add_index(target, DatabaseIndex(name, tuple(fields.split(",")), "staged" in flags), flags)

    def db_text(self, target: str, field: str, *rest: str) -> list[str]:
        filters, flags = _filters_and_flags(rest)
        return self.add_index(
            target, SearchIndex(target.partition(".")[2], field, filters, "staged" in flags), flags
        )

    def db_vector(self, target: str, field: str, dimensions: str, *rest: str) -> list[str]:
        filters, flags = _filters_and_flags(rest)
        name = target.partition(".")[2]
        index = VectorIndex(name, field, int(dimensions), filters, "staged" in flags)
        return self.add_index(target, index, flags)

    def add_index(self, target: str, index: Index, flags: Sequence[str]) -> list[str]:
        table = target.partition(".")[0]
        self.run(lambda tx: definitions.create_index(tx, table, index))
        if "held" not in flags:
            self.loop.run_until_complete(self.db.idle())
        if not flags:
            self.db_enable(target)
        return [self.state_of(target)]

    def db_hold(self) -> list[str]:
        self.free_to_work.clear()
        return []

    def db_wait(self) -> list[str]:
        self.free_to_work.set()
        self.loop.run_until_complete(self.db.idle())
        return []

    def db_enable(self, target: str) -> list[str]:
        self.run(lambda tx: definitions.enable_index(tx, self.index_row(tx, target)))
        return [self.state_of(target)]

    def db_stage(self, target: str) -> list[str]:
        self.run(lambda tx: definitions.stage_index(tx, self.index_row(tx, target)))
        return [self.state_of(target)]

    def db_drop(self, target: str) -> list[str]:
        self.run(lambda tx: definitions.drop_index(tx, self.index_row(tx, target)))
        return []

    def db_delete(self, table: str) -> list[str]:
        self.run(lambda tx: definitions.delete_table(tx, table))
        self.loop.run_until_complete(self.db.idle())
        return []

    def db_schema(self, text: str) -> list[str]:
        """`{"users": {"age": "number"}}`, each field a kind of validator, `?` for optional ones."""
        tables = [
            {
                "tableName": table,
                "indexes": [],
                "documentType": {
                    "type": "object",
                    "value": {
                        name: {"fieldType": {"type": kind.rstrip("?")}, "optional": kind.endswith("?")}
                        for name, kind in fields.items()
                    },
                },
            }
            for table, fields in json.loads(text).items()
        ]
        schema = json.dumps({"tables": tables, "schemaValidation": True})
        self.pending_schema = self.run(lambda tx: definitions.submit_schema(tx, schema))
        return []

    def db_state(self) -> list[str]:
        assert self.pending_schema is not None
        info = self.db.catalog.schema(self.pending_schema)
        if info is None:
            return ["gone"]
        return [info.state if info.error is None else f"{info.state}: {self.readable(info.error)}"]

    def db_activate(self) -> list[str]:
        assert self.pending_schema is not None
        id = self.pending_schema
        self.run(lambda tx: definitions.activate_schema(tx, id))
        return self.db_state()

    def db_subscribe(self, actor: str, name: str) -> list[str]:
        tx = self.txs[actor]
        self.db.subscribe(tx.reads, tx.snapshot.ts, lambda ts: self.told.append(f"{name} told {self.at(ts)}"))
        return []

    def db_tick(self, seconds: str) -> list[str]:
        self.clock.ns += int(float(seconds) * 1e9)
        return []

    def db_sleep(self, seconds: str) -> list[str]:
        self.loop.run_until_complete(asyncio.sleep(float(seconds)))
        return []

    def db_reopen(self) -> list[str]:
        for tx in self.txs.values():
            tx.close()
        self.loop.run_until_complete(self.db.close())
        folder = self.db_folder
        self.db = self.loop.run_until_complete(Database.open(folder, clock=self.clock, limits=self.db.limits))
        return []

    def run(self, body: Any) -> Any:
        result, _ = self.loop.run_until_complete(self.db.run(None, body, write_source="script"))
        return result

    def index_row(self, tx: Transaction, target: str) -> DocumentId:
        table, _, name = target.partition(".")
        return [id for t, index, id in definitions.indexes(tx) if (t.name, index.name) == (table, name)][-1]

    def state_of(self, target: str) -> str:
        table, _, name = target.partition(".")
        index = self.db.catalog.index("", table, name)
        assert index is not None
        return index.state + (", staged" if index.staged else "")

    # ---------------------------------------------------------------------------------------------- wording

    def at(self, ts: int) -> str:
        return f"@{self.commits.setdefault(ts, len(self.commits) + 1)}"

    def cursor(self, text: str) -> str:
        for name, known in self.cursors.items():
            if known == text:
                return name
        name = f"c{len(self.cursors) + 1}"
        self.cursors[name] = text
        return name

    def fields(self, text: str) -> dict[str, Any]:
        value = from_json(self.json(text), internal=True)
        assert isinstance(value, dict)
        return value

    def json(self, text: str) -> Any:
        """JSON in which @u1 stands for the id that the label names."""
        for label, id in self.labels.items():
            text = re.sub(rf"@{label}\b", f'"{id}"', text)
        return json.loads(text)

    def shown(self, raw: bytes) -> str:
        value = decode(raw, internal=True)
        assert isinstance(value, dict)
        label = next(name for name, id in self.labels.items() if str(id) == value["_id"])
        fields = {name: child for name, child in value.items() if name[0] != "_"}
        return self.readable(f"{label} {print_value(fields)}")

    def readable(self, text: str) -> str:
        for label, id in self.labels.items():
            text = text.replace(str(id), label)
        return " ".join(text.split())


def _filters_and_flags(words: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    flags = [word for word in words if word in ("staged", "held")]
    fields = [field for word in words if word not in flags for field in word.split(",")]
    return tuple(fields), flags


def _words(line: str) -> list[str]:
    """Words, JSON being one word whatever is in it."""
    words: list[str] = []
    rest = line.strip()
    while rest:
        if rest[0] in '{["':
            end = _json_end(rest)
        else:
            end = len(rest.split(maxsplit=1)[0])
        words.append(rest[:end])
        rest = rest[end:].strip()
    return words


def _json_end(text: str) -> int:
    depth, quoted, position = 0, False, 0
    for position, c in enumerate(text):
        if quoted:
            quoted = c != '"' or text[position - 1] == "\\"
        elif c == '"':
            quoted = True
        elif c in "{[":
            depth += 1
        elif c in "}]":
            depth -= 1
        if depth == 0 and not quoted and c in '}]"':
            break
    return position + 1
