"""Changes to request bodies of ``/users/track``.

One object for each user, holding the identifier, one boolean and the update-only flag
(Braze docs, "User attributes object" and "POST: /users/track").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Identifiers longer than this are refused: "'external_id' must be fewer than 988 bytes".
MAX_ID_BYTES: Final = 987

#: Most bytes of a request. Braze takes 4 MB (2 MB on /users/track/bulk); no request comes near unless identifiers are
#: very long, and aiohttp writes a body of up to 1 MiB in one go.
BODY_BYTES: Final = 1_000_000

_ALIAS = "user_alias:"


def alias_kind(label: str) -> str:
    """Return the ledger's name for aliases under ``label``; another label is another kind of identifier."""
    return _ALIAS + label


def alias_label(id_kind: str) -> str | None:
    """Return the label of a kind that ``alias_kind`` made, None for any other kind."""
    return id_kind.removeprefix(_ALIAS) if id_kind.startswith(_ALIAS) else None


@dataclass(frozen=True)
class Wrapping:
    """The JSON around each user's identifier, the same for all users of one kind that travel alike.

    :param before: JSON before the identifier.
    :param after: JSON after it.
    """

    before: bytes
    after: bytes

    def join(self, users: Sequence[str]) -> bytes:
        """Return one piece of JSON for each of ``users``, with commas between them."""
        written = orjson.dumps(users)
        if b"\\" in written or "," in users:
            return b",".join([self.before + orjson.dumps(user) + self.after for user in users])
        # Without a backslash no text holds a quotation mark, so this is what stands between two texts and nowhere else,
        # unless it is a text that is nothing but a comma.
        between = b'"' + self.after + b"," + self.before + b'"'
        return self.before + written[1:-1].replace(b'","', between) + self.after


@dataclass(frozen=True, kw_only=True)
class AttributeWriter:
    """Write the objects that put a user into a cohort kept as a boolean custom attribute, or take it out.

    :param attribute: name of the custom attribute.
    :param on_exit: ``false`` keeps the attribute so that it stays filterable, ``unset`` removes it (null).
    :param create_users: let Braze create profiles for identifiers it does not know.
    """

    attribute: str
    on_exit: Literal["false", "unset"] = "false"
    create_users: bool = False

    def wrapping(self, action: str, id_kind: str) -> Wrapping:
        """Return what is around the identifier: only that differs from user to user."""
        value = b"true" if action != "leave" else (b"false" if self.on_exit == "false" else b"null")
        # A leaver that Braze does not know must never be created, whatever create_users says.
        only_existing = b"false" if self.create_users and action != "leave" else b"true"
        name = orjson.dumps(self.attribute)
        after = b"," + name + b":" + value + b',"_update_existing_only":' + only_existing + b"}"
        if (label := alias_label(id_kind)) is not None:
            before = b'{"user_alias":{"alias_label":' + orjson.dumps(label) + b',"alias_name":'
            return Wrapping(before, b"}" + after)
        return Wrapping(b'{"' + id_kind.encode() + b'":', after)
