"""An identity provider on loopback: keys of its own, discovery, a key set; and ways of being out of order."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey


class _Anything(jws.JWSRegistry):
    """Signs what nobody should."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: Any) -> None: ...


class Answer:
    """What a path answers."""

    def __init__(
        self,
        body: bytes | Any,
        *,
        status: int = 200,
        headers: dict[str, str] | None = None,
        wait_s: float = 0,
    ) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = headers or {}
        self.wait_s = wait_s


class Issuer:
    """Use with `with`. `routes` may be changed at any time; `asked` counts the requests of each path."""

    def __init__(self, algorithm: str = "RS256") -> None:
        self.algorithm = algorithm
        self.keys: dict[str, Any] = {"first": new_key(algorithm)}
        self.asked: Counter[str] = Counter()
        self.routes: dict[str, Answer | Callable[[dict[str, str]], Answer]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer._answer(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.routes["/.well-known/openid-configuration"] = lambda _: Answer(
            {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}, headers=self.headers
        )
        self.routes["/keys"] = lambda _: Answer(self.key_set(), headers=self.headers)
        self.headers: dict[str, str] = {}

    def __enter__(self) -> Issuer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No longer there at all."""
        self._server.shutdown()
        self._server.server_close()

    def key_set(self) -> dict[str, Any]:
        return {"keys": [{**key.as_dict(private=False), "kid": kid} for kid, key in self.keys.items()]}

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(time.time())
        standard = {"iss": self.url, "sub": "ann", "aud": "app", "iat": now, "exp": now + 3600}
        return {name: value for name, value in {**standard, **more}.items() if value is not ...}

    def token(self, kid: str | None = "first", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token signed with one of its keys. `claims` replace standard ones; `...` leaves one out."""
        key = self.keys[kid or "first"]
        full = {
            "alg": self.algorithm,
            "typ": "JWT",
            **({} if kid is None else {"kid": kid}),
            **(header or {}),
        }
        return signed(full, self.claims(**claims), key)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.asked[path] += 1
        route = self.routes.get(path, Answer(b"nothing here", status=404))
        answer = route if isinstance(route, Answer) else route(dict(request.headers.items()))
        time.sleep(answer.wait_s)
        try:
            request.send_response(answer.status)
            for name, value in answer.headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(answer.body)))
            request.end_headers()
            request.wfile.write(answer.body)
        except OSError:
            request.close_connection = True


def new_key(algorithm: str) -> Any:
    if algorithm == "ES256":
        return ECKey.generate_key("P-256", private=True)
    if algorithm == "EdDSA":
        return OKPKey.generate_key("Ed25519", private=True)
    return RSAKey.generate_key(2048, private=True)


def signed(header: dict[str, Any], claims: dict[str, Any] | bytes, key: Any) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return jws.serialize_compact(header, payload, key, registry=_Anything())


def signed_with_secret(header: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """HS256 by hand: the library refuses to take a public key for a secret."""
    parts = [urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)]
    digest = hmac.new(secret, ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, urlsafe_b64encode(digest).decode().rstrip("=")])
