"""Who may ask what: the bearer token, and what an administrative request must look like."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from assay.serve.errors import FORBIDDEN, MEDIA_TYPE, UNAUTHENTICATED, ServeError
from assay.serve.http.head import Head
from assay.serve.http.routes import Route
from assay.serve.settings import LOOPBACK, Access

MAINTENANCE = "start the server with --admin to allow it"


class Gate:
    def __init__(self, access: Access, host: str) -> None:
        self._access = access
        self._hosts = {host.lower(), *LOOPBACK, *(h.lower() for h in access.hosts)}

    def check(self, head: Head, route: Route) -> None:
        """Raises ServeError: unauthenticated, forbidden, or an unfit media type."""
        token = self._access.token
        if token is not None and not route.open and not _bears(head, token):
            raise ServeError(UNAUTHENTICATED, "this server wants Authorization: Bearer and its token")
        if not route.admin:
            return
        if not self._access.admin:
            raise ServeError(FORBIDDEN, f"{head.path[:200]} is off; {MAINTENANCE}")
        if head.method == "POST":
            self._check_origin(head)

    def _check_origin(self, head: Head) -> None:
        """A page in somebody's browser must not administer a server that only that person can reach."""
        host = head.headers.get("host", "")
        if not self._known(host):
            raise ServeError(FORBIDDEN, f"Host {host[:100]!r} is not a name of this server (--allow-host adds one)")
        origin = head.headers.get("origin")
        if origin is not None and _place(origin) != host:
            raise ServeError(FORBIDDEN, f"a page of {origin[:100]!r} may not administer this server")
        kind = head.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ServeError(MEDIA_TYPE, f"administrative requests are application/json, not {kind[:60]!r}")

    def _known(self, host: str) -> bool:
        name = _host_name(host)
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # an address cannot be made to point here by somebody else's name server


def _place(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """Without the port; empty for none and for what cannot be one."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _bears(head: Head, token: bytes) -> bool:
    scheme, _, given = head.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), token)
