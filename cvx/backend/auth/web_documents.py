"""Fetching what identity providers publish: small documents, kept for as long as their headers allow.

Rules:
- One fetch of an address at a time, whoever waits for it; a fetch ends within `auth_fetch_s`, and what it may read,
  how often it may be redirected and how many documents are kept is bounded.
- A document that has grown stale is still used, for a while, when its provider cannot be reached.
- This deployment's own addresses are answered inside the process: it need not be reachable from itself.

Source: RFC 9111 (max-age, Age, Expires, no-store, ETag), RFC 5861 (stale-if-error).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx

from cvx.backend.config import Limits

_log = logging.getLogger("cvx.auth")

OwnTransport = Callable[[str], "httpx.AsyncBaseTransport | None"]
"""The way to an address inside this process; None for an address elsewhere."""

# A proxy of the machine's knows nothing of the machine itself.
_NO_PROXY = ("all://localhost", "all://127.0.0.1", "all://[::1]", "all://*.localhost")
_max_age = re.compile(r"(?:^|[,\s])max-age\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
_stale_if_error = re.compile(r"(?:^|[,\s])stale-if-error\s*=\s*\"?(\d{1,10})", re.IGNORECASE)
_must_revalidate = re.compile(r"(?:^|[,\s])no-(?:store|cache)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Document:
    """What an address answered. Times are of the loop's clock. `parsed` is whatever its reader made of it."""

    body: bytes
    fetched_s: float
    fresh_until_s: float
    usable_until_s: float
    """Until when it serves although it is stale, while no newer one can be had."""
    etag: str | None = None
    parsed: dict[str, Any] = field(default_factory=dict, compare=False)


class FetchFailed(Exception):
    """No document. `passing`: trying again later may help (no connection, time-out, a server's own failure)."""

    def __init__(self, why: str, *, passing: bool) -> None:
        super().__init__(why)
        self.why = why
        self.passing = passing


@dataclass(frozen=True)
class _Failure:
    why: str
    passing: bool
    until_s: float


class WebDocuments:
    """All documents of one backend. `close` when done."""

    def __init__(self, limits: Limits, own: OwnTransport = lambda url: None) -> None:
        self._limits = limits
        self._own = own
        self._client: httpx.AsyncClient | None = None
        self._held: OrderedDict[str, Document] = OrderedDict()
        self._failed: OrderedDict[str, _Failure] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[Document]] = {}

    async def get(self, url: str, *, fetched_after_s: float | None = None) -> Document:
        """The document at `url`: the one that is held while it is fresh, else fetched.

        `fetched_after_s` asks for one fetched later than that, on the loop's clock. Raises FetchFailed.
        """
        now_s = asyncio.get_running_loop().time()
        held = self._held.get(url)
        wanted_s = -math.inf if fetched_after_s is None else fetched_after_s
        if held is not None and held.fresh_until_s > now_s and held.fetched_s > wanted_s:
            self._held.move_to_end(url)
            return held
        failed = self._failed.get(url)
        if failed is not None and failed.until_s > now_s:
            return self._despite(held, failed, now_s)
        fetching = self._fetching.get(url)
        if fetching is None:
            fetching = self._fetching[url] = asyncio.create_task(self._fetch_and_keep(url, held))
            fetching.add_done_callback(lambda task: self._fetched(url, task))
        try:
            return await asyncio.shield(fetching)  # Others may wait for it, too.
        except FetchFailed as failure:
            return self._despite(held, _Failure(failure.why, failure.passing, 0), now_s)

    async def close(self) -> None:
        for task in list(self._fetching.values()):
            task.cancel()
        await asyncio.gather(*self._fetching.values(), return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _despite(self, held: Document | None, failure: _Failure, now_s: float) -> Document:
        """The stale document, if it may serve; raises FetchFailed otherwise."""
        if held is not None and failure.passing and held.usable_until_s > now_s:
            return held
        raise FetchFailed(failure.why, passing=failure.passing)

    def _fetched(self, url: str, task: asyncio.Task[Document]) -> None:
        del self._fetching[url]
        if not task.cancelled():
            task.exception()  # Nobody may be waiting any more: that is no reason for a warning.

    async def _fetch_and_keep(self, url: str, held: Document | None) -> Document:
        limits = self._limits
        try:
            document = await _in_time(self._fetch(url, held), limits.auth_fetch_s)
        except FetchFailed as failure:
            self._note_failure(url, failure)
            raise
        except (asyncio.TimeoutError, httpx.TimeoutException):
            late = FetchFailed(f"no answer within {limits.auth_fetch_s:g} s", passing=True)
            self._note_failure(url, late)
            raise late from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            text = str(error).strip() or type(error).__name__
            wrong = FetchFailed(text[:300], passing=isinstance(error, httpx.TransportError))
            self._note_failure(url, wrong)
            raise wrong from None
        self._failed.pop(url, None)
        self._held[url] = document
        self._held.move_to_end(url)
        while len(self._held) > limits.auth_documents_max:
            self._held.popitem(last=False)
        return document

    def _note_failure(self, url: str, failure: FetchFailed) -> None:
        _log.warning("%s could not be fetched: %s", url[:200], failure.why)
        until_s = asyncio.get_running_loop().time() + self._limits.auth_retry_s
        self._failed[url] = _Failure(failure.why, failure.passing, until_s)
        self._failed.move_to_end(url)
        while len(self._failed) > self._limits.auth_documents_max:
            self._failed.popitem(last=False)

    async def _fetch(self, url: str, held: Document | None) -> Document:
        address = url
        headers = {"accept": "application/json, application/jwk-set+json"}
        if held is not None and held.etag is not None:
            headers["if-none-match"] = held.etag
        for _ in range(self._limits.auth_redirects_max + 1):
            own = self._own(address)
            client = self._shared_client() if own is None else httpx.AsyncClient(transport=own)
            try:
                async with client.stream("GET", address, headers=headers) as response:
                    if response.has_redirect_location:
                        address = _redirected(address, str(response.url.join(response.headers["location"])))
                        continue
                    if response.status_code == 304 and held is not None:
                        fetched_s, fresh_until_s, usable_until_s = self._times(response)
                        return replace(
                            held,
                            fetched_s=fetched_s,
                            fresh_until_s=fresh_until_s,
                            usable_until_s=usable_until_s,
                        )
                    body = await self._body(response)
                    _check_status(response, body)
                    return Document(body, *self._times(response), etag=response.headers.get("etag"))
            finally:
                if own is not None:
                    await client.aclose()
        raise FetchFailed("it redirects too often", passing=False)

    async def _body(self, response: httpx.Response) -> bytes:
        pieces, size = [], 0
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > self._limits.auth_document_bytes_max:
                most = self._limits.auth_document_bytes_max
                raise FetchFailed(f"it is larger than {most} bytes", passing=False)
            pieces.append(piece)
        return b"".join(pieces)

    def _times(self, response: httpx.Response) -> tuple[float, float, float]:
        """When it was fetched, until when it is fresh, until when it may serve."""
        limits, now_s = self._limits, asyncio.get_running_loop().time()
        control = response.headers.get("cache-control", "")
        fresh_s = limits.auth_document_s
        if _must_revalidate.search(control) is not None:
            fresh_s = 0.0
        elif (found := _max_age.search(control)) is not None:
            fresh_s = float(found[1]) - _seconds(response.headers.get("age"))
        elif "expires" in response.headers:
            fresh_s = _until_expiry(response)
        # Not even a provider that forbids to keep anything is asked for every single token.
        fresh_s = min(max(fresh_s, limits.auth_retry_s), limits.auth_document_s_max)
        stale = _stale_if_error.search(control)
        stale_s = limits.auth_stale_s if stale is None else min(float(stale[1]), limits.auth_document_s_max)
        return now_s, now_s + fresh_s, now_s + fresh_s + stale_s

    def _shared_client(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(
                timeout=self._limits.auth_fetch_s,
                limits=httpx.Limits(max_connections=16, max_keepalive_connections=4),
                mounts=dict.fromkeys(_NO_PROXY),
                follow_redirects=False,
                headers={"user-agent": "cvx"},
            )
        return self._client


async def _in_time(work: Coroutine[Any, Any, Document], seconds: float) -> Document:
    """What it gives. Raises asyncio.TimeoutError. Not `wait_for`: it may lose a cancellation (Python 3.11)."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


def _redirected(source: str, target: str) -> str:
    """The address a redirect leads to. Keys that came encrypted are not fetched in the open."""
    before, after = urlsplit(source), urlsplit(target)
    if after.scheme not in ("http", "https"):
        raise FetchFailed(f"it redirects to a {after.scheme[:20]!r} address", passing=False)
    if before.scheme == "https" and after.scheme == "http" and not _is_loopback(after.hostname):
        raise FetchFailed("it redirects from https to http", passing=False)
    return target


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_status(response: httpx.Response, body: bytes) -> None:
    status = response.status_code
    if status == 200:
        return
    said = body[:200].decode(errors="replace").strip()
    raise FetchFailed(
        f"{status} {response.reason_phrase}".strip() + (f": {said}" if said else ""),
        passing=status >= 500 or status in (408, 425, 429),
    )


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() and len(text) < 12 else 0.0


def _until_expiry(response: httpx.Response) -> float:
    """How long `Expires` is away, on the provider's clock. Nonsense there means: expired already."""
    try:
        expires = parsedate_to_datetime(response.headers["expires"])
        date = parsedate_to_datetime(response.headers["date"])
        return (expires - date).total_seconds()
    except (KeyError, TypeError, ValueError):
        return 0.0
