"""Take keys out of text before it is logged, raised or shown.

Braze repeats the key it was given in the body of a 401 (``Invalid API key: <key>``), so nothing that came
over the wire may reach a log or an exception without passing here.
"""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"

_URL_USER_INFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@", re.IGNORECASE)
_BEARER = re.compile(r"(?P<word>\bBearer)(?:\s|%20|\+)+(?:\\?[\"'])?[^\s\"'\\,;&}\])>]+", re.IGNORECASE)
# "api_key": "value", client_secret=value, \"partner_api_key\": \"value\"
_FIELD = re.compile(
    r"(?P<name>(?:\w*api_key|\w*client_secret)(?:\\?[\"'])?\s*[:=]\s*)"
    r"(?:\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|[^\s,;&}]+)",
    re.IGNORECASE,
)
# Braze's prose. The key may be anything, spaces and quotes included, so the rest of the message goes with it.
_PROSE = re.compile(
    r"(?P<words>(?:API|import) key|client secret)\s*:\s*(?:\"(?:\\.|[^\"\\\r\n])*\")?(?:\\.|[^\"\\\r\n])*",
    re.IGNORECASE,
)


class Redactor:
    """Replace every known secret, and everything that looks like one, by ``***``.

    A known secret is found in any letter case, and also URL-encoded, JSON-escaped, HTML-escaped or as Python
    shows it in a ``repr``. Unknown secrets are found where Braze or an HTTP library would show them: after
    ``Bearer``, in ``api_key`` and ``client_secret`` fields, after ``API key:`` and ``client secret:``, and
    before the ``@`` of a URL.

    :param secrets: the keys in use; None and empty ones are ignored.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a key may be the beginning of another one.
        ordered = sorted(forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None

    def __call__(self, text: str) -> str:
        """Return the text without secrets.

        :param text: a body, an exception's text or a log line.
        """
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _BEARER.sub(rf"\g<word> {MASK}", text)
        text = _FIELD.sub(rf"\g<name>{MASK}", text)
        text = _PROSE.sub(rf"\g<words>: {MASK}", text)
        return _URL_USER_INFO.sub(rf"\g<scheme>{MASK}@", text)

    def __repr__(self) -> str:
        """Show nothing: a compiled pattern would spell the secrets out."""
        return "Redactor()"


def _forms(secret: str) -> Iterable[str]:
    yield secret
    # Somebody pastes a key with a stray quote or blank: Braze may echo it without them.
    yield from filter(None, (secret.strip(), secret.strip("\"' \t\r\n")))
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield html.escape(secret)
