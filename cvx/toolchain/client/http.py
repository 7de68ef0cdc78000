"""DeploymentClient: the admin and public HTTP API of one deployment, ours or any that speaks the protocol.

Rule: every failure leaves as a CvxError: `DeploymentUnreachable` when nobody answered, otherwise the code and
message the deployment sent, with its HTTP status in `details["status"]`. Keys appear in no message.

Source: reference/cli-and-deploy.md §0.1, §5; values-and-sync.md §5.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from cvx.errors import CvxError, ErrorKind
from cvx.toolchain.project import Deployment

# httpx's own command line would import rich and click, 100 ms that no command of ours needs.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
import httpx  # noqa: E402

CLI_CLIENT = "npm-cli-1.48.0"
"""What the official CLI calls itself: servers choose the shape of log lines by it (cli-and-deploy.md §5.7)."""
FUNCTION_CLIENT = "npm-1.48.0"

CONNECT_DEADLINE_S = 10.0
ANSWER_DEADLINE_S = 330.0
"""Longer than any single call may take on the server, so that its own error arrives first."""

COMPRESS_ABOVE_BYTES = 16_384

_KINDS: dict[int, ErrorKind] = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    413: "bad_request",
    429: "rate_limited",
    502: "unavailable",
    503: "overloaded",
    504: "unavailable",
}

T = TypeVar("T")
_PREAMBLE = re.compile(r"\A\[Request ID: \w+\] Server Error\s*")
_OFFICIAL_ADVICE = re.compile(r" Did you forget to run `npx convex .*", re.DOTALL)


class CanonicalUrls(msgspec.Struct, rename={"cloud": "convexCloudUrl", "site": "convexSiteUrl"}):
    """Where clients and HTTP actions reach a deployment."""

    cloud: str
    site: str


class FunctionAnswer(msgspec.Struct, rename="camel"):
    """What a function call came to; exactly one of value and error_message is meaningful."""

    status: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    error_message: str | None = None
    error_data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    log_lines: list[str] = []


class LogLine(msgspec.Struct, rename="camel"):
    """One console call of a function. `timestamp` in ms."""

    messages: list[str] = []
    level: str = "LOG"
    timestamp: float | None = None
    is_truncated: bool = False
    component_path: str | None = None
    udf_path: str | None = None


class LogEntry(msgspec.Struct, rename="camel"):
    """One finished (or, for actions, running) function call. `timestamp` in s, `execution_time` in s."""

    kind: str
    udf_type: str = "Query"
    identifier: str = ""
    timestamp: float = 0.0
    component_path: str | None = None
    log_lines: list[LogLine | str] = []
    error: str | None = None
    execution_time: float | None = None
    cached_result: bool = False


class LogPage(msgspec.Struct, rename="camel"):
    """Log entries after a cursor; `raw` keeps them as the deployment sent them."""

    entries: list[msgspec.Raw]
    new_cursor: float


class _ErrorBody(msgspec.Struct):
    code: str = ""
    message: str = ""


def _plain_words(response: httpx.Response) -> str:
    """What an answer says that is no deployment's; a web page says nothing to people at a terminal."""
    text = response.text[:500].strip()
    return "" if text.startswith("<") else text


@dataclass(frozen=True)
class FunctionCallError:
    """How a function call failed, as the deployment told it."""

    message: str
    data_json: bytes | None
    log_lines: tuple[str, ...]


class DeploymentClient:
    """One deployment over one warm HTTP connection. Use as an async context manager, or call `close`."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        # Loading certificate authorities takes 20 ms and a plain http:// address needs none of them.
        secure = deployment.url.startswith("https:")
        self._near = httpx.URL(deployment.url).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.AsyncClient(
            base_url=deployment.url,
            headers={"Authorization": f"Convex {deployment.admin_key}", "Convex-Client": CLI_CLIENT},
            timeout=httpx.Timeout(ANSWER_DEADLINE_S, connect=CONNECT_DEADLINE_S),
            limits=httpx.Limits(max_connections=32, max_keepalive_connections=8, keepalive_expiry=None),
            verify=secure,
            trust_env=secure,
        )

    async def __aenter__(self) -> DeploymentClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    # ---- small endpoints -------------------------------------------------------------------------

    async def version(self) -> str:
        """The server's version, as text."""
        return (await self._send("GET", "/version")).text.strip()

    async def instance_name(self) -> str:
        """The deployment's name; answers as soon as it is ready."""
        return (await self._send("GET", "/instance_name")).text.strip()

    async def canonical_urls(self) -> CanonicalUrls:
        """The addresses to hand to clients."""
        return await self.get("/api/v1/get_canonical_urls", CanonicalUrls)

    # ---- functions -------------------------------------------------------------------------------

    async def call_function(
        self,
        path: str,
        args_json: bytes,
        *,
        component: str | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> FunctionAnswer:
        """Run any function, internal ones too. A function that threw is an answer, not an exception."""
        body: dict[str, Any] = {"path": path, "format": "convex_encoded_json", "args": msgspec.Raw(args_json)}
        if component:
            body["componentPath"] = component
        headers = {"Convex-Client": FUNCTION_CLIENT}
        if identity is not None:
            attributes = base64.b64encode(msgspec.json.encode(identity)).decode()
            headers["Authorization"] = f"Convex {self.deployment.admin_key}:{attributes}"
        return await self._call("/api/function", body, headers)

    async def inline_query(self, source: str, *, component_id: str | None = None) -> FunctionAnswer:
        """Run a query that is not part of the deployment; `source` is a whole module."""
        body: dict[str, Any] = {
            "adminKey": self.deployment.admin_key,
            "args": {},
            "bundle": {"path": "testQuery.js", "source": source},
            "format": "convex_encoded_json",
        }
        if component_id is not None:
            body["componentId"] = component_id
        return await self._call("/api/run_test_function", body, {"Convex-Client": FUNCTION_CLIENT})

    async def system_query(
        self, path: str, args: Mapping[str, Any], shape: type[T], *, component: str | None = None
    ) -> T:
        """One answer of a `_system/…` query, about the app or a component. Raises CvxError `SystemQueryFailed`,
        `ComponentNotFound`."""
        body: dict[str, Any] = {"path": path, "format": "convex_encoded_json", "args": [args]}
        if component:
            body["componentPath"] = component
        route = "/api/function" if component else "/api/query"
        answer = await self._call(route, body, {"Convex-Client": FUNCTION_CLIENT})
        if answer.status != "success":
            if "There is no component" in (answer.error_message or ""):
                raise CvxError(
                    "ComponentNotFound", f"There is no component {component!r}.", kind="not_found",
                    hint="Check --component PATH: names of mounts, with a slash between.",
                )  # fmt: skip
            raise CvxError("SystemQueryFailed", f"{path}: {answer.error_message}", details={"status": 200})
        return msgspec.json.decode(answer.value, type=shape)

    async def _call(self, route: str, body: dict[str, Any], headers: Mapping[str, str]) -> FunctionAnswer:
        response = await self._send(
            "POST", route, content=msgspec.json.encode(body), headers=dict(headers), accept=(200, 560)
        )
        return self._decode(response, FunctionAnswer)

    # ---- environment -----------------------------------------------------------------------------

    async def environment(self) -> dict[str, str]:
        """Every variable of the deployment, by name."""
        rows = await self.system_query("_system/cli/queryEnvironmentVariables", {}, list[dict[str, Any]])
        return {row["name"]: row["value"] for row in sorted(rows, key=lambda row: str(row["name"]))}

    async def set_environment(self, changes: Mapping[str, str | None]) -> None:
        """Set (or, with None, remove) variables, all or none."""
        wire = [{"name": name, "value": value} for name, value in changes.items()]
        await self.post("/api/update_environment_variables", {"changes": wire})

    # ---- logs ------------------------------------------------------------------------------------

    async def function_logs(self, cursor: float) -> LogPage:
        """Entries after `cursor` (0: everything kept); waits up to a minute when there are none."""
        response = await self._send("GET", "/api/stream_function_logs", params={"cursor": repr(cursor)})
        return self._decode(response, LogPage)

    # ---- plumbing --------------------------------------------------------------------------------

    async def get(self, route: str, shape: type[T]) -> T:
        """GET and decode."""
        return self._decode(await self._send("GET", route), shape)

    async def post(self, route: str, body: Any) -> bytes:
        """POST a value (or ready JSON bytes) as JSON; the raw answer."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return (await self._send("POST", route, content=content)).content

    async def post_push(self, route: str, body: Any) -> bytes:
        """POST a push; over a network the body, mostly program text, is compressed as the official CLI does."""
        content = msgspec.json.encode(body)
        headers = {}
        if not self._near and len(content) > COMPRESS_ABOVE_BYTES:
            import brotli

            content = brotli.compress(content, mode=brotli.MODE_TEXT, quality=4)
            headers["Content-Encoding"] = "br"
        return (await self._send("POST", route, content=content, headers=headers)).content

    @asynccontextmanager
    async def stream(self, method: str, route: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """A response whose body is read in pieces."""
        try:
            async with self._http.stream(method, route, **options) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise self._refusal(response)
                yield response
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise unreachable(self.deployment, f"the connection broke ({reason})") from error

    async def _send(
        self,
        method: str,
        route: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        accept: tuple[int, ...] = (200,),
    ) -> httpx.Response:
        sent = {"Content-Type": "application/json", **(headers or {})}
        try:
            response = await self._http.request(method, route, content=content, headers=sent, params=params)
        except httpx.ConnectError as error:
            raise unreachable(self.deployment, _why_no_connection(error)) from error
        except httpx.ConnectTimeout as error:
            raise unreachable(self.deployment, "no connection in time") from error
        except httpx.TimeoutException as error:
            raise CvxError(
                "TimedOut",
                f"{self.deployment.url} gave no answer to {route} within {ANSWER_DEADLINE_S:.0f} s.",
                kind="unavailable",
                hint="See what it is busy with: cvx logs",
                retry_when="time",
            ) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise unreachable(self.deployment, f"the connection broke ({reason})") from error
        if response.status_code not in accept:
            raise self._refusal(response)
        return response

    def _refusal(self, response: httpx.Response) -> CvxError:
        """The deployment's own error, with what to do about the ones that everybody meets."""
        status = response.status_code
        try:
            body = msgspec.json.decode(response.content, type=_ErrorBody)
        except msgspec.MsgspecError:
            body = _ErrorBody(message=_plain_words(response))
        kind = _KINDS.get(status, "internal" if status >= 500 else "bad_request")
        hint = None
        if status in (401, 403):
            hint = "Check the admin key; the backend's own prints with `cvx backend key --data DIR`."
        elif not body.code:
            hint = f"Is {self.deployment.url} really a Convex deployment?"
        message = (
            body.message or f"{response.request.method} {response.url} was answered with status {status}."
        )
        return CvxError(
            body.code or f"Http{status}",
            message,
            kind=kind,
            hint=hint,
            retry_when="time" if status >= 500 or status == 429 else "never",
            details={"status": status, "route": response.request.url.path},
        )

    def _decode(self, response: httpx.Response, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=shape)
        except msgspec.MsgspecError as error:
            raise CvxError(
                "UnexpectedAnswer",
                f"{response.url} answered something else than expected: {error}",
                kind="internal",
                hint=f"Is {self.deployment.url} really a Convex deployment?",
            ) from error


def unreachable(deployment: Deployment, why: str) -> CvxError:
    """The error for a deployment that does not answer."""
    hint = "Start it with `cvx dev`." if deployment.kind == "local" else "Check the address and the network."
    return CvxError(
        "DeploymentUnreachable",
        f"The deployment {deployment.name!r} at {deployment.url} cannot be reached: {why}.",
        kind="unavailable",
        hint=hint,
        retry_when="time",
    )


def _why_no_connection(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return "nothing answers there"
        cause = cause.__cause__ or cause.__context__
    return f"no connection ({error})"  # An unknown name, a certificate that is not trusted, no route.


def without_preamble(message: str) -> str:
    """An error text without `[Request ID: …] Server Error`, unless that is all there is (errors are redacted)."""
    shown = message.strip()
    return _PREAMBLE.sub("", shown) or shown


def raise_for_function(path: str, answer: FunctionAnswer) -> None:
    """Turn a failed answer into the CvxError a command ends with; a successful one passes."""
    if answer.status == "success":
        return
    message = without_preamble(answer.error_message or "")
    has_data = answer.error_data is not msgspec.UNSET
    data = msgspec.json.decode(answer.error_data) if isinstance(answer.error_data, msgspec.Raw) else None
    details: dict[str, Any] = {"log_lines": list(answer.log_lines), "function": path}
    if "Could not find" in message and "function" in message:
        raise CvxError(
            "FunctionNotFound",
            _OFFICIAL_ADVICE.sub("", message),
            kind="not_found",
            hint="`cvx functions` lists what is deployed; `cvx dev --once` pushes what is not.",
            details=details,
        )
    if "There is no component" in message:
        raise CvxError(
            "ComponentNotFound", message, kind="not_found", hint="Check --component PATH.", details=details
        )
    if "ArgumentValidationError" in message:
        raise CvxError(
            "ArgumentValidation", message, hint=f"`cvx functions` shows what {path} takes.", details=details
        )
    raise CvxError("FunctionThrew", f"{path}: {message}", data=data, has_data=has_data, details=details)
