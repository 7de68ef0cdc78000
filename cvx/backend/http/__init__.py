"""The ASGI apps of a backend. Decode, call one thing, encode."""

from cvx.backend.http.app import ApiApp, OneOriginApp, SiteApp
from cvx.backend.http.own_origins import own_transport
from cvx.backend.http.server import HttpServer
from cvx.backend.http.services import Issuing, Services

__all__ = ["ApiApp", "HttpServer", "Issuing", "OneOriginApp", "Services", "SiteApp", "own_transport"]
