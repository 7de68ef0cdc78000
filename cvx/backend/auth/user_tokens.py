"""Everything that checking user tokens takes, made when the first token comes.

Most backends of a developer never see a token, and the libraries for signatures and HTTP take a quarter of a second
to load: that happens off the loop, once.

Rule: no decision is made here; see tokens.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cvx.backend.auth.identity import User
from cvx.backend.auth.providers import Provider
from cvx.backend.config import Limits

if TYPE_CHECKING:
    from cvx.backend.auth.tokens import TokenChecker
    from cvx.backend.auth.web_documents import OwnTransport, WebDocuments


class UserTokenChecks:
    """The token checks of one backend. `close` when done.

    `providers` are those of the moment, `now_s` is Unix time, `own` finds this deployment's own addresses.
    """

    def __init__(
        self,
        limits: Limits,
        providers: Callable[[], Sequence[Provider]],
        now_s: Callable[[], float],
        own: OwnTransport = lambda url: None,
    ) -> None:
        self._limits = limits
        self._providers = providers
        self._now_s = now_s
        self._own = own
        self._documents: WebDocuments | None = None
        self._checker: TokenChecker | None = None
        self._loading: asyncio.Task[None] | None = None

    async def check(self, text: str) -> User:
        """The user whose token this is. Raises CvxError (tokens.py)."""
        if self._checker is None:
            if self._loading is None:
                self._loading = asyncio.create_task(self._load())
            await asyncio.shield(self._loading)
        assert self._checker is not None
        return await self._checker.check(text)

    async def close(self) -> None:
        if self._loading is not None:
            await asyncio.gather(self._loading, return_exceptions=True)
        if self._documents is not None:
            await self._documents.close()

    async def _load(self) -> None:
        await asyncio.to_thread(_import_libraries)
        from cvx.backend.auth.key_sets import KeySets
        from cvx.backend.auth.tokens import TokenChecker
        from cvx.backend.auth.web_documents import WebDocuments

        self._documents = WebDocuments(self._limits, self._own)
        key_sets = KeySets(self._documents, self._limits)
        self._checker = TokenChecker(key_sets, self._limits, self._providers, self._now_s)


def _import_libraries() -> None:
    import cvx.backend.auth.tokens
    import cvx.backend.auth.web_documents  # noqa: F401
