"""The address of a Braze REST endpoint: what a person typed, made one clean URL."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.connection_fields import Refuse

# https://www.braze.com/docs/user_guide/administrative/access_braze/sdk_endpoints (read in 2026).
KNOWN_HOSTS: frozenset[str] = frozenset(
    {
        *(f"rest.iad-0{n}.braze.com" for n in range(1, 9)),
        "rest.us-10.braze.com",
        "rest.fra-01.braze.eu",
        "rest.fra-02.braze.eu",
        "rest.au-01.braze.com",
        "rest.id-01.braze.com",
        "rest.jp-01.braze.com",
        "rest.kr-01.braze.com",
    }
)

_EXAMPLE = "https://rest.iad-01.braze.com"
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_BRAZE_KEY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_NOT_REST = re.compile(r"(?P<kind>sdk|dashboard)[.-].*\.braze\.(com|eu)|dashboard\.braze\.(com|eu)")


def unknown_host_warning(name: str) -> str | None:
    """Say so when a host is no REST endpoint known today: Braze opens new clusters, so it may still be one.

    :param name: the host without a port.
    """
    if name in KNOWN_HOSTS or is_loopback(name):
        return None
    # Only the same cluster is worth suggesting: rest.fra-01.braze.com is short of .eu, not of another number.
    same = next((known for known in KNOWN_HOSTS if _cluster(known) == _cluster(name)), None)
    hint = f"did you mean {same}?" if same else "compare it with the REST endpoint that your dashboard shows."
    return f"{name} is not a Braze REST endpoint this version knows: {hint}"


def clean_base_url(refuse: Refuse, host: str, port: int | None, schema: str) -> str:
    """Make one clean URL of a connection's host, port and schema: scheme, host name and port, no more.

    :param refuse: called with the field, its value and the fix when there is no such URL.
    :param host: a URL or a bare host, for which https is assumed.
    :param port: the connection's port, or None.
    :param schema: ``http``, ``https`` or empty.
    """
    host, schema = host.strip(), schema.strip().lower()
    if "@" in host or "@" in schema:
        # kubit_braze://:key@host is no valid URI (RFC 3986: no underscore in a scheme): Airflow then leaves
        # all of it, key included, in the schema.
        refuse.because(
            "host",
            "an '@' shows that a key or a whole URI is in the wrong place",
            "put the key into the password, and write a connection URI with a hyphen: kubit-braze://:<key>@<host>",
        )
    if not host:
        refuse("host", None, f"enter the REST endpoint of your Braze instance, such as {_EXAMPLE}")
    if _BRAZE_KEY.fullmatch(host):
        refuse.because("host", "looks like a key", f"enter the REST endpoint, such as {_EXAMPLE}")
    if schema not in ("", "http", "https"):
        # Not shown: kubit-braze://host/<key> puts a key here.
        refuse.because("schema", "is neither http nor https", "leave it empty")
    if _is_ip(host):
        host = f"[{host}]" if ":" in host else host
    scheme, _, rest = host.rpartition("://")
    if scheme and schema and scheme.lower() != schema:
        refuse("schema", schema, f"leave it empty: the host says {scheme}")
    scheme = scheme.lower() or schema or "https"
    if scheme not in ("http", "https"):
        refuse("host", f"{scheme}://...", "use https")
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        name, written_port = (parts.hostname or ""), parts.port
    except ValueError:
        refuse.because("host", "is not a valid host or port", f"enter it as {_EXAMPLE}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        refuse.because(
            "host", f"holds more than {name or 'a host'}", f"enter only the host, such as {_EXAMPLE}"
        )
    if not (_is_ip(name) or _HOST_NAME.fullmatch(name)):
        refuse("host", name, f"enter it as {_EXAMPLE}")
    if written_port and port and written_port != port:
        refuse("port", port, f"leave it empty: the host says {written_port}")
    if wrong := _NOT_REST.fullmatch(name):
        rest_name = re.sub(r"^sdk\.", "rest.", name)
        right = rest_name if wrong["kind"] == "sdk" and rest_name in KNOWN_HOSTS else _EXAMPLE
        refuse("host", name, f"that is not a REST endpoint, use one such as {right}")
    if scheme == "http" and not is_loopback(name):
        refuse(
            "host", f"http://{name}", "use https: plain http would show the key, and is only for 127.0.0.1"
        )
    number = written_port or port
    return f"{scheme}://{f'[{name}]' if ':' in name else name}{f':{number}' if number else ''}"


def _cluster(name: str) -> str:
    return re.sub(r"^rest\.|\.braze\.(com|eu)$", "", name)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether a host name without a port means this machine: 127.0.0.0/8, ::1 or localhost."""
    return name == "localhost" or (_is_ip(name) and ipaddress.ip_address(name).is_loopback)
