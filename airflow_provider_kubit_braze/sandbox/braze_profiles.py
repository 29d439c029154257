"""The user profiles of the workspace, and which of them an identifier means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Kind = Literal["external_id", "user_alias", "braze_id", "email", "phone"]

KINDS: Final[tuple[Kind, ...]] = ("external_id", "user_alias", "braze_id", "email", "phone")
"""Identifiers, the one that counts first when an object holds several (Braze: e-mail wins over phone)."""

Alias = tuple[str, str]
"""``(alias_label, alias_name)``."""


class Profile:
    """One user.

    :param number: position in the workspace; a profile without a ``braze_id`` of its own derives it from
        this.
    """

    __slots__ = (
        "_braze_id",
        "aliases",
        "custom",
        "device_ids",
        "email",
        "events",
        "external_id",
        "number",
        "phone",
        "purchases",
        "standard",
        "updated",
    )

    def __init__(self, number: int, *, braze_id: str | None = None) -> None:
        self.number = number
        self._braze_id = braze_id
        self.external_id: str | None = None
        self.email: str | None = None
        self.phone: str | None = None
        self.aliases: dict[str, str] | None = None
        self.device_ids: tuple[str, ...] = ()
        self.custom: dict[str, Any] = {}
        self.standard: dict[str, Any] | None = None
        self.events: dict[str, dict[str, Any]] | None = None
        self.purchases: dict[str, dict[str, Any]] | None = None
        self.updated = 0

    @property
    def braze_id(self) -> str:
        """Braze's own id, 24 hexadecimal digits unless one was given."""
        return self._braze_id or f"{self.number:024x}"

    def as_json(self) -> dict[str, Any]:
        """Return what ``/users/export/ids`` can show; what the profile lacks is absent, as Braze leaves it
        out.
        """
        content: dict[str, Any] = {
            "external_id": self.external_id,
            "braze_id": self.braze_id,
            "email": self.email,
            "phone": self.phone,
            "user_aliases": [
                {"alias_label": label, "alias_name": name} for label, name in (self.aliases or {}).items()
            ],
            "devices": [{"device_id": device_id} for device_id in self.device_ids],
            **(self.standard or {}),
            "custom_attributes": self.custom,
            "custom_events": summaries(self.events),
            "purchases": summaries(self.purchases),
        }
        return {name: value for name, value in content.items() if value not in (None, [], {})}


def summaries(
    occurrences: Mapping[str, Mapping[str, Any]] | None, *, only: str | None = None
) -> list[dict[str, Any]]:
    """Return events or purchases as Braze exports them (name, first, last, count): all, or ``only`` those of
    a name.
    """
    return [
        {"name": name, **summary} for name, summary in (occurrences or {}).items() if only in (None, name)
    ]


class Directory:
    """All profiles, findable by every identifier. Ids are opaque: case and spaces count."""

    def __init__(self) -> None:
        self.by_external_id: dict[str, Profile] = {}
        self._profiles: list[Profile] = []
        self._by_alias: dict[Alias, Profile] = {}
        self._by_braze_id: dict[str, Profile] = {}
        self._by_email: dict[str, list[Profile]] = {}
        self._by_phone: dict[str, list[Profile]] = {}
        self._by_device: dict[str, list[Profile]] = {}

    def __len__(self) -> int:
        return len(self._profiles)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._profiles)

    def at(self, number: int) -> Profile:
        """Return the profile of that number."""
        return self._profiles[number]

    def find(self, kind: Kind, value: Any) -> Profile | None:
        """Return the profile that ``value`` means; an alias is ``(label, name)``."""
        if kind == "external_id":
            return self.by_external_id.get(value)
        if kind == "user_alias":
            return self._by_alias.get(value)
        if kind == "braze_id":
            return self._of_braze_id(value)
        return _most_recent(self.all_with(kind, value))

    def all_with(self, kind: Literal["email", "phone"], value: str) -> list[Profile]:
        """Return every profile with that address or number."""
        return (self._by_email if kind == "email" else self._by_phone).get(value, [])

    def with_device(self, device_id: str) -> list[Profile]:
        """Return every profile that has the device."""
        return self._by_device.get(device_id, [])

    def create(self, kind: Kind, value: Any) -> Profile:
        """Make the profile that ``value`` shall mean; Braze makes none for a ``braze_id``."""
        profile = self.add()
        if kind == "external_id":
            profile.external_id = value
            self.by_external_id[value] = profile
        elif kind == "user_alias":
            self.give_alias(profile, value)
        elif kind == "email":
            self.set_email(profile, value)
        else:
            self.set_phone(profile, value)
        return profile

    def add(self, *, braze_id: str | None = None) -> Profile:
        """Make an anonymous profile."""
        profile = Profile(len(self._profiles), braze_id=braze_id)
        self._profiles.append(profile)
        if braze_id is not None:
            self._by_braze_id[braze_id] = profile
        return profile

    def put(self, user: Mapping[str, Any]) -> Profile:
        """Make or change the profile described by JSON, as a test's set-up does it: outside Braze's rules."""
        external_id, braze_id = user.get("external_id"), user.get("braze_id")
        profile = self.by_external_id.get(external_id) if external_id is not None else None
        if profile is None and external_id is None and braze_id is not None:
            profile = self._of_braze_id(braze_id)
        if profile is None:
            profile = self.add(braze_id=braze_id)
            if external_id is not None:
                profile.external_id = external_id
                self.by_external_id[external_id] = profile
        if "email" in user:
            self.set_email(profile, user["email"])
        if "phone" in user:
            self.set_phone(profile, user["phone"])
        for alias in user.get("user_aliases", ()):
            self.give_alias(profile, (alias["alias_label"], alias["alias_name"]))
        if "device_ids" in user:
            self._set_devices(profile, user["device_ids"])
        profile.custom.update(user.get("custom_attributes", {}))
        return profile

    def give_alias(self, profile: Profile, alias: Alias) -> None:
        """Name ``profile`` by ``alias``: one name for each label."""
        label, name = alias
        profile.aliases = {**(profile.aliases or {}), label: name}
        self._by_alias[alias] = profile

    def set_email(self, profile: Profile, email: str | None) -> None:
        """Change the address, or remove it with None."""
        _move(self._by_email, profile, profile.email, email)
        profile.email = email

    def set_phone(self, profile: Profile, phone: str | None) -> None:
        """Change the number, or remove it with None."""
        _move(self._by_phone, profile, profile.phone, phone)
        profile.phone = phone

    def _set_devices(self, profile: Profile, device_ids: Iterable[str]) -> None:
        for device_id in profile.device_ids:
            _move(self._by_device, profile, device_id, None)
        profile.device_ids = tuple(device_ids)
        for device_id in profile.device_ids:
            _move(self._by_device, profile, None, device_id)

    def _of_braze_id(self, braze_id: str) -> Profile | None:
        given = self._by_braze_id.get(braze_id)
        if given is not None or len(braze_id) != 24:
            return given
        try:
            number = int(braze_id, 16)
        except ValueError:
            return None
        profile = self._profiles[number] if number < len(self._profiles) else None
        return profile if profile is not None and profile.braze_id == braze_id else None


def _most_recent(candidates: list[Profile]) -> Profile | None:
    """Return the most recently updated one with an external_id; without any such, the most recently
    updated.
    """
    return max(
        candidates, key=lambda profile: (profile.external_id is not None, profile.updated), default=None
    )


def _move(index: dict[str, list[Profile]], profile: Profile, old: str | None, new: str | None) -> None:
    if old is not None:
        index[old].remove(profile)
        if not index[old]:
            del index[old]
    if new is not None:
        index.setdefault(new, []).append(profile)
