"""Imports and exports over HTTP as any client makes them, without a line of the toolchain."""

from __future__ import annotations

import io
import json
import time
import zipfile
from typing import Any

import httpx

from cvx.values import decode, encode

PART = 5 << 20


class TransferClient:
    """An admin of one backend."""

    def __init__(self, url: str, admin_key: str) -> None:
        self.http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Convex {admin_key}", "Convex-Client": "npm-cli-1.48.0"},
            timeout=60,
        )

    def close(self) -> None:
        self.http.close()

    def query(self, path: str, **args: Any) -> Any:
        body = {"path": path, "args": [json.loads(encode(args))], "format": "convex_encoded_json"}
        answer = self.http.post("/api/query", json=body).json()
        assert answer["status"] == "success", answer
        return decode(json.dumps(answer["value"]))

    # ---------------------------------------------------------------------------------------------- imports

    def submit(
        self,
        data: bytes,
        format: str,
        table: str | None,
        mode: str = "requireEmpty",
        part: int = PART,
        **more: Any,
    ) -> str:
        """Upload in parts and finish; the import's id."""
        token = self.http.post("/api/import/start_upload").json()["uploadToken"]
        parts: list[str] = []
        for at in range(0, max(len(data), 1), part):
            answer = self.http.post(
                "/api/import/upload_part",
                params={"uploadToken": token, "partNumber": len(parts) + 1},
                content=data[at : at + part],
            )
            assert answer.status_code == 200, answer.text
            parts.append(answer.json())
        order = {"format": format, "mode": mode, **({"tableName": table} if table else {}), **more}
        answer = self.http.post(
            "/api/import/finish_upload", json={"import": order, "uploadToken": token, "partTokens": parts}
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["importId"])

    def row(self, id: str) -> dict[str, Any]:
        row = self.query("_system/cli/queryImport", importId=id)
        assert isinstance(row, dict)
        return row

    def wait(self, id: str, *states: str, deadline_s: float = 60) -> dict[str, Any]:
        """The state, once it is one of these (or the import has failed)."""
        deadline = time.monotonic() + deadline_s
        while True:
            state: dict[str, Any] = self.row(id)["state"]
            if state["state"] in (*states, "failed"):
                return state
            assert time.monotonic() < deadline, f"still {state}"
            time.sleep(0.01)

    def confirm(self, id: str) -> httpx.Response:
        return self.http.post("/api/perform_import", json={"importId": id})

    def cancel(self, id: str) -> httpx.Response:
        return self.http.post("/api/cancel_import", json={"importId": id})

    def load(
        self, data: bytes, format: str, table: str | None, mode: str = "requireEmpty", **more: Any
    ) -> dict[str, Any]:
        """A whole import; its last state."""
        id = self.submit(data, format, table, mode, **more)
        first = self.wait(id, "waiting_for_confirmation", "completed")
        if first["state"] == "waiting_for_confirmation":
            assert self.confirm(id).status_code == 200
        return self.wait(id, "completed")

    # ------------------------------------------------------------------------------------------------- tables

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Every document, through the export of one table."""
        answer = self.http.get("/api/export/table", params={"table": table})
        assert answer.status_code == 200, answer.text
        found = [decode(line) for line in answer.content.splitlines()]
        assert all(isinstance(row, dict) for row in found)
        return found  # type: ignore[return-value]

    def tables(self) -> list[str]:
        return [
            row["name"]
            for row in self.query("_system/cli/tables", paginationOpts={"cursor": None, "numItems": 100.0})[
                "page"
            ]
        ]

    def size(self, table: str) -> int:
        return int(self.query("_system/cli/tableSize", tableName=table))

    # ------------------------------------------------------------------------------------------------- exports

    def export(self, *, storage: bool = False, **more: Any) -> zipfile.ZipFile:
        answer = self.http.post(
            "/api/export/request/zip", params={"includeStorage": "true" if storage else "false", **more}
        )
        assert answer.status_code == 200, answer.text
        id = answer.json()["exportId"]
        deadline = time.monotonic() + 60
        while True:
            row = self.query("_system/cli/exports:getLatest")
            assert row["_id"] == id
            if row["state"] not in ("requested", "in_progress"):
                break
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert row["state"] == "completed", row
        archive = self.http.get(f"/api/export/zip/{row['start_ts']}")
        assert archive.status_code == 200 and int(archive.headers["content-length"]) == len(archive.content)
        return zipfile.ZipFile(io.BytesIO(archive.content))


def lines(*rows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def zipped(entries: dict[str, bytes]) -> bytes:
    """A ZIP of these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()
