"""Serves the page: `public/`, the browser client out of node_modules, and the deployment's address.

`python3 serve.py [PORT]`. Only these files are served, never the project's folder itself: keys live there.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parent
CLIENT = ROOT / "node_modules" / "convex" / "dist" / "browser.bundle.js"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}


def deployment_url() -> str:
    """CONVEX_URL of .env.local, which `cvx dev` writes."""
    for line in (ROOT / ".env.local").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "CONVEX_URL":
            return value.strip("'\"")
    raise SystemExit("No CONVEX_URL in .env.local: start `cvx dev` first.")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/") or "index.html"
        if name == "config.js":
            body = f"const CONVEX_URL = {json.dumps(deployment_url())};".encode()
        elif name == "convex.js":
            body = CLIENT.read_bytes()
        elif name in {path.name for path in (ROOT / "public").iterdir()}:
            body = (ROOT / "public" / name).read_bytes()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", f"{TYPES.get(Path(name).suffix, 'text/plain')}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    print(f"http://127.0.0.1:{port}", flush=True)
    server.serve_forever()
