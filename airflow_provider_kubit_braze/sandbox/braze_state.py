"""The workspace behind the local Braze: profiles, cohorts, the queue of accepted changes, counters. No
sockets.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.sandbox.braze_cohorts import Change, Cohort, apply_changes
from airflow_provider_kubit_braze.sandbox.braze_faults import Faults
from airflow_provider_kubit_braze.sandbox.braze_limits import RateLimit
from airflow_provider_kubit_braze.sandbox.braze_profiles import Directory, Kind, Profile
from airflow_provider_kubit_braze.sandbox.braze_rules import MERGE, UPDATE_ONLY, Occurrence, Run, Verdict
from airflow_provider_kubit_braze.sandbox.braze_settings import COHORTS, WorkspaceSettings
from airflow_provider_kubit_braze.sandbox.braze_values import (
    MAX_STRING,
    STANDARD_FIELDS,
    data_points,
    write_value,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_kubit_braze.sandbox.braze_campaigns import Triggered


@dataclass(slots=True)
class Tally:
    """What happened since the start or the last reset.

    :param requests: requests by path.
    :param statuses: answers by path and status.
    :param dropped: connections closed without an answer, by path.
    :param objects_accepted: objects of track bodies answered as accepted.
    :param objects_rejected: objects of track bodies named in ``errors``.
    :param attribute_writes: attributes in accepted objects by name, whether or not the user exists.
    :param data_points: what was written to users who exist (or were created), by name; events and purchases
        too.
    :param unknown_users: accepted objects that met no user and created none.
    :param profiles_created: by a request, not by a test's set-up.
    :param cohort_identifiers: identifiers in accepted partner cohort changes.
    :param cohort_unknown: of those, applied and met nobody.
    """

    requests: Counter[str] = field(default_factory=Counter)
    statuses: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    dropped: Counter[str] = field(default_factory=Counter)
    objects_accepted: int = 0
    objects_rejected: int = 0
    attribute_writes: Counter[str] = field(default_factory=Counter)
    data_points: Counter[str] = field(default_factory=Counter)
    unknown_users: int = 0
    profiles_created: int = 0
    cohort_identifiers: int = 0
    cohort_unknown: int = 0


class Workspace:
    """One Braze workspace. Not thread-safe: one event loop owns it.

    Braze answers 201 when a change is *queued*; here too: accepted changes wait ``apply_delay`` seconds and
    are then applied in the order they came.

    :param settings: what ``reset`` comes back to.
    :param clock: epoch seconds; rate windows and the queue go by it.
    """

    def __init__(
        self, *, settings: WorkspaceSettings | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.clock = clock
        self._first_settings: Final = settings or WorkspaceSettings()
        self.reset()

    def reset(self) -> None:
        """Forget everything: users, cohorts, queue, counters, faults, and changes of settings."""
        self.directory = Directory()
        self.cohorts: dict[tuple[str, str], Cohort] = {}
        self.send_ids: set[tuple[str, str]] = set()
        self.triggered: list[Triggered] = []
        self.tally = Tally()
        self._queue: deque[tuple[float, int, Callable[[], None]]] = deque()
        self._queued_objects = 0
        self._revision = 0
        self._use(self._first_settings)
        self.faults = Faults(seed=self.settings.seed)

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings; rate windows start anew.

        :raises SettingError: when one of the changes cannot be; then none is made.
        """
        self._use(self.settings.changed(changes))

    def _use(self, settings: WorkspaceSettings) -> None:
        self.settings = settings
        self._takes_all_names = not settings.blocklisted_attributes and not settings.forced_types
        self._limits: dict[str, RateLimit] = {}

    def limit(self, name: str, *, partner: str = "") -> RateLimit:
        """Return the limit of that name; each partner has its own for cohorts."""
        key = name + partner
        limit = self._limits.get(key)
        if limit is None:
            limit = self._limits[key] = RateLimit(self.settings.windows[COHORTS if partner else name])
        return limit

    # ------------------------------------------------------------------ the queue

    @property
    def pending(self) -> int:
        """Accepted objects not applied yet."""
        return self._queued_objects

    @property
    def next_due(self) -> float | None:
        """When the next change is to be applied, in the clock's seconds; None when nothing waits."""
        return self._queue[0][0] if self._queue else None

    def apply_due(self) -> None:
        """Apply what is due by the clock."""
        queue = self._queue
        now = self.clock() if queue else 0.0
        while queue and queue[0][0] <= now:
            self._apply_first()

    def settle(self) -> None:
        """Apply everything now."""
        while self._queue:
            self._apply_first()

    def _apply_first(self) -> None:
        _, objects, apply = self._queue.popleft()
        self._queued_objects -= objects
        apply()

    def _enqueue(self, objects: int, apply: Callable[[], None]) -> None:
        self._queue.append((self.clock() + self.settings.apply_delay, objects, apply))
        self._queued_objects += objects

    # ------------------------------------------------------------------ users

    def accept(self, verdict: Verdict) -> None:
        """Count what ``verdict`` holds and queue what it accepts."""
        self._count(verdict)
        if verdict.accepted:
            self._enqueue(verdict.accepted, partial(self._apply, verdict))

    def apply_now(self, verdict: Verdict) -> None:
        """Count and apply at once, past the queue, as the synchronous endpoint does."""
        self._count(verdict)
        self._apply(verdict)

    def put_users(self, users: Iterable[Mapping[str, Any]]) -> int:
        """Make or change profiles for a test, and return how many; costs nothing and obeys none of Braze's
        rules.
        """
        return sum(1 for _ in map(self.directory.put, users))

    def _count(self, verdict: Verdict) -> None:
        tally = self.tally
        tally.objects_accepted += verdict.accepted
        tally.objects_rejected += len(verdict.errors)
        for run in verdict.runs:
            for name in run.shape.names:
                tally.attribute_writes[name] += len(run.objects)

    def _apply(self, verdict: Verdict) -> None:
        for run in verdict.runs:
            self._apply_run(run)
        for occurrence in verdict.events:
            self._apply_occurrence(occurrence, name=occurrence[2]["name"], event=True)
        for occurrence in verdict.purchases:
            self._apply_occurrence(occurrence, name=occurrence[2]["product_id"], event=False)

    def _apply_run(self, run: Run) -> None:
        profiles = self._profiles_of(run)
        plain = self._takes_all_names and None not in profiles
        for name in run.shape.names:
            values = list(map(itemgetter(name), run.objects))
            points = 0
            if (
                plain
                and len(name) <= MAX_STRING
                and name not in STANDARD_FIELDS
                and set(map(type, values)) == {bool}
            ):
                # The usual body, kept tight: the sandbox must outrun any benchmark.
                for profile, value in zip(profiles, values, strict=True):
                    profile.custom[name] = value  # type: ignore[union-attr]
                points = len(values)
            else:
                for profile, value, item in zip(profiles, values, run.objects, strict=True):
                    if profile is not None:
                        points += self._write(profile, name, value, item)
            if points:
                self.tally.data_points[name] += points

    def _profiles_of(self, run: Run) -> Sequence[Profile | None]:
        """Return the user of each object, created where Braze creates one; None where there is none."""
        self._revision += 1
        revision = self._revision
        if run.kind == "external_id":
            found = list(map(self.directory.by_external_id.get, run.identities))
            if None not in found:
                for profile in found:
                    profile.updated = revision  # type: ignore[union-attr]
                return found
        return [
            self._profile_of(run.kind, who, item)
            for who, item in zip(run.identities, run.objects, strict=True)
        ]

    def _profile_of(self, kind: Kind, identity: Any, item: Mapping[str, Any]) -> Profile | None:
        profile = self.directory.find(kind, identity)
        if profile is None:
            if kind == "braze_id" or item.get(UPDATE_ONLY, kind == "user_alias"):
                self.tally.unknown_users += 1
                return None
            self.tally.profiles_created += 1
            profile = self.directory.create(kind, identity)
        profile.updated = self._revision
        return profile

    def _write(self, profile: Profile, name: str, value: Any, item: Mapping[str, Any]) -> int:
        """Write one value and return its data points; a value Braze drops costs none."""
        if name == "email":
            self.directory.set_email(profile, value)
        elif name == "phone":
            self.directory.set_phone(profile, value)
        elif name in STANDARD_FIELDS:
            profile.standard = {**(profile.standard or {}), name: value}
        elif not write_value(
            profile.custom, name, value, settings=self.settings, merge=bool(item.get(MERGE))
        ):
            return 0
        return data_points(name, value)

    def _apply_occurrence(self, occurrence: Occurrence, *, name: str, event: bool) -> None:
        kind, identity, item = occurrence
        self._revision += 1
        profile = self._profile_of(kind, identity, item)
        if profile is None:
            return
        held = (profile.events if event else profile.purchases) or {}
        before = held.get(name, {"first": item["time"], "last": item["time"], "count": 0})
        times = sorted((before["first"], before["last"], item["time"]))
        held[name] = {
            "first": times[0],
            "last": times[-1],
            "count": before["count"] + item.get("quantity", 1),
        }
        if event:
            profile.events = held
        else:
            profile.purchases = held
        self.tally.data_points[name] += 1

    # ------------------------------------------------------------------ partner cohorts

    def name_cohort(self, partner: str, cohort_id: str, *, name: str, created_at: str) -> None:
        """Create or rename a partner's cohort."""
        cohort = self.cohorts.setdefault((partner, cohort_id), Cohort())
        cohort.name, cohort.created_at = name, created_at

    def change_cohort(self, partner: str, cohort_id: str, changes: Sequence[Change], *, size: int) -> None:
        """Queue changes of a cohort's members; a cohort that was never named gets them too, unseen by
        marketers.
        """
        self.tally.cohort_identifiers += size
        if size:
            self._enqueue(size, partial(self._apply_changes, partner, cohort_id, changes))

    def _apply_changes(self, partner: str, cohort_id: str, changes: Sequence[Change]) -> None:
        cohort = self.cohorts.setdefault((partner, cohort_id), Cohort())
        self.tally.cohort_unknown += apply_changes(cohort.members, changes, self.directory)
