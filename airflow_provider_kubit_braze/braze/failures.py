"""Put a failed call into one sentence and the exception that tells the caller what to do."""

from __future__ import annotations

import errno
import socket
import ssl

import requests

from airflow_provider_kubit_braze.exceptions import (
    BrazeAuthError,
    BrazeEndpointError,
    BrazeError,
    BrazeRequestError,
    BrazeUnavailableError,
)

_LONGEST_WORDS = 300

# 408 time-out, 423 "Resource locked" (cohorts), 425 too early, 429 rate limit: https://www.braze.com/docs/api/errors
_LATER = frozenset({408, 423, 425, 429})


def answer_error(*, host: str, path: str, status: int, words: str) -> BrazeError:
    """Explain an answer that is not a success.

    :param host: where the request went.
    :param path: the endpoint.
    :param status: the HTTP status.
    :param words: Braze's message, already redacted; empty when the answer was not Braze's JSON.
    """
    words = " ".join(words.split())
    said = f" Braze says: {words[:_LONGEST_WORDS]}" if words else ""
    if status in (401, 403) and path.startswith("/partners/"):
        return BrazeAuthError(
            f"Braze at {host} refuses the partner cohort keys ({status}): check partner_api_key, "
            f"client_secret (the Data Import Key), and that {host} is the instance they were made for.{said}",
            status=status,
        )
    if status == 401:
        return BrazeAuthError(
            f"Braze at {host} does not know this REST API key (401): check the key, which needs the permission "
            f"{_permission(path)}, and that {host} is the instance it was made for.{said}",
            status=status,
        )
    if status == 403:
        return BrazeAuthError(
            f"The REST API key lacks the permission {_permission(path)} (403): a key's permissions cannot be "
            f"changed, so make a new key that has it.{said}",
            status=status,
        )
    if status in _LATER or status >= 500:
        return BrazeUnavailableError(
            f"Braze at {host} cannot take {path} now ({status}).{said}", status=status
        )
    foreign = not words and status not in (413, 415)
    if status in (404, 405) or 300 <= status < 400 or foreign:
        fix = " or partner" if path.startswith("/partners/") else ""
        return BrazeEndpointError(
            f"{host} does not answer {path} as a Braze REST endpoint does ({status}): check the connection's "
            f"host{fix}.{said}",
            status=status,
        )
    return BrazeRequestError(
        f"Braze at {host} refuses the request to {path} ({status}).{said}", status=status
    )


def transport_error(error: requests.RequestException, *, host: str, timeout: float) -> BrazeError:
    """Explain why no answer arrived. The library's own text is left out: it may hold the request.

    :param error: what requests raised.
    :param host: where the request went.
    :param timeout: the time limit, in seconds.
    """
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return BrazeEndpointError(
            f"The TLS certificate of {host} could not be verified: check the host, and REQUESTS_CA_BUNDLE "
            "if a proxy opens the traffic.",
            unsent=True,
        )
    if isinstance(error, requests.exceptions.SSLError):
        return BrazeEndpointError(
            f"No TLS connection with {host}: check the host and port (a local Braze without TLS is written "
            "as http://127.0.0.1:<port>)."
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return BrazeEndpointError(
            f"The proxy on the way to {host} refuses: check HTTPS_PROXY and NO_PROXY.",
            unsent=any(map(_made_no_tunnel, causes)),
        )
    if isinstance(error, requests.Timeout):
        return BrazeUnavailableError(
            f"Braze at {host} did not answer within {timeout:g} seconds.",
            unsent=isinstance(error, requests.ConnectTimeout),
        )
    if any(map(_knows_no_host, causes)):
        return BrazeEndpointError(
            f"There is no host {host}: check the connection's host, and DNS on the worker.", unsent=True
        )
    if any(map(_nobody_listens, causes)):
        return BrazeEndpointError(
            f"Nothing listens at {host}: check the connection's host and port.", unsent=True
        )
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return BrazeUnavailableError(
            f"The connection to Braze at {host} broke before the answer was complete."
        )
    return BrazeRequestError(
        f"The request to {host} could not be sent or its answer not read: {type(error).__name__}."
    )


def _made_no_tunnel(cause: BaseException) -> bool:
    """Whether a proxy was not reached, or answered CONNECT with a refusal: the request goes out after that only."""
    return (
        _knows_no_host(cause)
        or _nobody_listens(cause)
        or (isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed: "))
    )


def _knows_no_host(cause: BaseException) -> bool:
    return isinstance(cause, socket.gaierror)


def _nobody_listens(cause: BaseException) -> bool:
    return isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED


def _permission(path: str) -> str:
    """``/users/track/bulk`` needs ``users.track.bulk``, and so on (Braze's pages of the endpoints)."""
    return path.strip("/").replace("/", ".")


def _causes(error: BaseException) -> list[BaseException]:
    """Everything an exception of requests wraps: urllib3 hides causes in arguments and in ``reason``."""
    found: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and not any(cause is known for known in found):
            found.append(cause)
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]
    return found
