"""How the delivery engine reaches Braze: whom it trusts, by which way, and what went wrong in plain words."""

from __future__ import annotations

import os
import ssl
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, select_proxy

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings


class Tracked(Protocol):
    """What a request is told of its own fate."""

    on_the_wire: bool


#: The request that the running task is about to send.
under_way: ContextVar[Tracked] = ContextVar("under_way")


class _TrackedRequest(aiohttp.ClientRequest):
    """Says when Braze may begin to get it; before, there is no connection.

    aiohttp's tracing says the same, and costs a third more CPU for every request.
    """

    async def send(self, *args: Any, **kwargs: Any) -> aiohttp.ClientResponse:
        under_way.get().on_the_wire = True
        return await super().send(*args, **kwargs)


def open_session(settings: BrazeSettings, *, bearer: bool = True) -> aiohttp.ClientSession:
    """Return a session that keeps its connections and sets ``on_the_wire`` of the task's ``under_way``.

    :param settings: where Braze is, and the key.
    :param bearer: whether the REST API key goes into the header; partner cohorts have their keys in the body.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=settings.max_in_flight, keepalive_timeout=60, ssl=_tls_context(settings)
        ),
        timeout=aiohttp.ClientTimeout(total=settings.timeout),
        request_class=_TrackedRequest,
        # Braze sets no cookies, and to look for them in every answer is not free.
        cookie_jar=aiohttp.DummyCookieJar(),
        # With it, aiohttp looks for proxies and a .netrc in a thread on every request; a password found there
        # would meet our key.
        trust_env=False,
        headers={
            **({"Authorization": f"Bearer {settings.rest_key}"} if bearer else {}),
            "Content-Type": "application/json",
            "User-Agent": settings.user_agent,
        },
    )


def proxy_of(settings: BrazeSettings) -> str | None:
    """Return the proxy that the environment names, as ``requests`` finds it for the single calls.

    Never one for this machine: it would carry the request, key included, to another.

    :param settings: where Braze is.
    """
    if settings.is_loopback:
        return None
    proxy = select_proxy(settings.base_url, get_environ_proxies(settings.base_url, no_proxy=None))
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _tls_context(settings: BrazeSettings) -> ssl.SSLContext | bool:
    """Trust whom ``requests`` trusts, or a connection that tests well could fail to import."""
    if settings.base_url.startswith("http://"):
        return True
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    ca = named or DEFAULT_CA_BUNDLE_PATH
    if os.path.isdir(ca):
        return ssl.create_default_context(capath=ca)
    return ssl.create_default_context(cafile=ca)


def failure_words(error: Exception, timeout: float) -> str:
    """Return why no complete answer arrived. Host and port may be in it, never the request.

    :param error: what aiohttp raised.
    :param timeout: the time limit, in seconds.
    """
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its TLS certificate cannot be verified: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.os_error}"
    return f"the connection broke ({type(error).__name__})"
