"""The connections of a client, direct or through the proxies of the environment."""

from __future__ import annotations

import base64
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.util import parse_url

from engine.stores.registry.certificates import certificate_directories, tls_context
from engine.stores.registry.location import Location

_CONNECT_SECONDS: Final = 5
_READ_SECONDS: Final = 60


class Connections:
    """The connections of one client. Safe from any thread."""

    def __init__(self, location: Location, home: Path) -> None:
        self._options: dict[str, Any] = {
            "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
            "retries": False,
            "maxsize": 16,
            "ssl_context": None
            if location.is_plain
            else tls_context(certificate_directories(location.host, home)),
        }
        self._proxies = getproxies_environment()
        self._lock = Lock()
        self._made: dict[str, urllib3.PoolManager] = {}

    def pool(self, url: str) -> urllib3.PoolManager:
        """Return the connections for a URL."""
        parts = parse_url(url)
        proxy = self._proxies.get(parts.scheme or "") or self._proxies.get("all") or ""
        if proxy and proxy_bypass(parts.netloc or ""):
            proxy = ""
        with self._lock:
            if proxy not in self._made:
                self._made[proxy] = self._make(proxy)
            return self._made[proxy]

    def _make(self, proxy: str) -> urllib3.PoolManager:
        if not proxy:
            return urllib3.PoolManager(**self._options)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        headers = {}
        if parts.username:
            user = b":".join(
                unquote_to_bytes(each or "") for each in (parts.username, parts.password)
            )
            headers["Proxy-Authorization"] = f"Basic {base64.b64encode(user).decode()}"
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return urllib3.ProxyManager(address, proxy_headers=headers, **self._options)
