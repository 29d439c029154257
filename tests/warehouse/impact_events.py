"""Random worlds for measuring: rows for every table a figure is taken from, and a ledger, with whatever is awkward.

Everything follows from the seed. Rows are dicts by column; a column that a row does not name is NULL.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.core.share_catalogue import ARCHIVE_SUFFIX, catalogue
from airflow_provider_kubit_braze.core.share_figures import FIGURES
from airflow_provider_kubit_braze.sandbox.braze_share import LATEST_DEFAULT, make_share_tables
from airflow_provider_kubit_braze.warehouse.stays import chunks

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from snowflake.connector import SnowflakeConnection

Row = dict[str, Any]

APP_GROUP: Final = "our-group"
OTHER_APP_GROUP: Final = "their-group"
WORKSPACE, COHORT = "workspace", "vips"

#: Every table that a figure is taken from, and one that nothing reads, although it tells who was kept from what.
TABLES: Final = (
    *dict.fromkeys(need.table for figure in FIGURES for need in figure.needs),
    "USERS_RANDOMBUCKETNUMBERUPDATE_SHARED",
)

# Both clocks change within: New York's on March 8 is the one that the tests use.
_FIRST: Final = datetime(2026, 2, 20, tzinfo=UTC)
_LAST: Final = datetime(2026, 3, 20, tzinfo=UTC)
NOW: Final = datetime(2026, 3, 21, tzinfo=UTC)
#: Tables that end earlier than the others: of what came later it is not known whether anybody did it.
_ENDS: Final = {
    "USERS_BEHAVIORS_PURCHASE": int(datetime(2026, 3, 18, 7, tzinfo=UTC).timestamp()),
    "USERS_BEHAVIORS_CUSTOMEVENT": int(datetime(2026, 3, 11, 7, tzinfo=UTC).timestamp()),
}
#: When the new messages reached somebody first: the day's start in New York. All others began long before.
_MOMENT: Final = int(datetime(2026, 3, 2, 5, tzinfo=UTC).timestamp())
SINCE, UNTIL = datetime(2026, 3, 2, tzinfo=UTC).date(), datetime(2026, 3, 15, tzinfo=UTC).date()

# A campaign and a Canvas share an id: the kind has to tell them apart.
CAMPAIGNS: Final = ("camp-1", "camp-2 100%", "same-id")
CANVASES: Final = ("canvas-1", "same-id")
NEW_MESSAGES: Final = ("camp-1", "canvas-1")
STEPS: Final = ("step-1", "step-1", "step-2", "", None)
EVENTS: Final = ("signup", "Signup", "o'clock 100%")

_ODD_NAMES: Final = ("ann", "Ann", "o'brien", "zoë", "100%", "%s", 'a"b', "back\\slash", "日本", "x;--")
_DELTAS: Final = (-5, 0, 0, 1, 60, 3599, 3600, 3601, 86399, 86400, 86401, 604799, 604800, 604801)
_MACHINES: Final = ("true", "True", "TRUE", "false", "False", None, None)

_CHANNELS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "email": {
        "reach": ("EMAIL_SEND",),
        "after": ("EMAIL_DELIVERY", "EMAIL_OPEN", "EMAIL_OPEN", "EMAIL_CLICK"),
        "out": ("EMAIL_UNSUBSCRIBE", "EMAIL_MARKASSPAM"),
    },
    "push": {
        "reach": ("PUSHNOTIFICATION_SEND",),
        "after": (
            "PUSHNOTIFICATION_BOUNCE",
            "PUSHNOTIFICATION_OPEN",
            "PUSHNOTIFICATION_INFLUENCEDOPEN",
        ),
    },
    "SMS": {"reach": ("SMS_SEND",), "after": ("SMS_DELIVERY", "SMS_SHORTLINKCLICK")},
    "RCS": {"reach": ("RCS_SEND",), "after": ("RCS_DELIVERY", "RCS_READ", "RCS_CLICK")},
    "WhatsApp": {
        "reach": ("WHATSAPP_SEND",),
        "after": ("WHATSAPP_DELIVERY", "WHATSAPP_READ", "WHATSAPP_CLICK"),
    },
    "LINE": {"reach": ("LINE_SEND",), "after": ("LINE_CLICK",)},
    "content card": {
        "reach": ("CONTENTCARD_SEND",),
        "after": ("CONTENTCARD_IMPRESSION", "CONTENTCARD_CLICK"),
    },
    "webhook": {"reach": ("WEBHOOK_SEND",), "after": ()},
    "in-app message": {"reach": ("INAPPMESSAGE_IMPRESSION",), "after": ("INAPPMESSAGE_CLICK",)},
    "banner": {"reach": ("BANNER_IMPRESSION",), "after": ("BANNER_CLICK",)},
    "feature flag": {"reach": ("FEATUREFLAG_IMPRESSION",), "after": ()},
}


@dataclass
class World:
    """A share and a ledger.

    :param share: table -> its rows.
    :param membership: rows of COHORT_MEMBERSHIP.
    :param runs: rows of IMPORT_RUN.
    :param views: rows of a profile view, for shares that have one.
    """

    share: dict[str, list[Row]] = field(default_factory=lambda: {table: [] for table in TABLES})
    membership: list[Row] = field(default_factory=list)
    runs: list[Row] = field(default_factory=list)
    views: list[Row] = field(default_factory=list)

    def only(self, tables: Collection[str]) -> dict[str, list[Row]]:
        """Return the share as it is with these tables only."""
        return {table: rows for table, rows in self.share.items() if table in tables}

    def archived(self) -> dict[str, list[Row]]:
        """Return the share as it is with the twins that have the archive, and nothing else."""
        return {f"{table}{ARCHIVE_SUFFIX}": rows for table, rows in self.share.items()}

    def batches(self, number: int) -> list[dict[str, list[Row]]]:
        """Return the share's rows in the order in which they arrive, in so many parts."""
        times = sorted(row["SF_CREATED_AT"] for rows in self.share.values() for row in rows if _created(row))
        edges = [times[len(times) * part // number] for part in range(1, number)]
        parts: list[dict[str, list[Row]]] = [{} for _ in range(number)]
        for table, rows in self.share.items():
            for row in rows:
                part = sum(edge <= row["SF_CREATED_AT"] for edge in edges) if _created(row) else 0
                parts[part].setdefault(table, []).append(row)
        return parts


def _created(row: Row) -> bool:
    return row.get("SF_CREATED_AT") is not None


@dataclass
class _Person:
    """Somebody whom Braze knows.

    :param is_quiet: what they do of their own accord never says their external id.
    """

    profile: str
    external_id: str | None
    is_quiet: bool = False
    stays: list[tuple[int, int | None]] = field(default_factory=list)


class _Maker:
    def __init__(self, seed: int, *, held: float, users: int, journeys: int, named: float) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.held = held
        self.named = named
        self.world = World()
        self.ids = count(1)
        self.imports = count(1)
        self.times = self._times()
        self.held_out: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
        self.people = [
            _Person(f"p{n:03}", self._external(n) if self.random.random() < 0.8 else None, n % 6 == 3)
            for n in range(users)
        ]
        self._ledger()
        self._merge()
        self.members = [person for person in self.people if person.stays]
        self._first_reach()
        for n in range(journeys):
            self._journey(n)
        for person in self.people:
            self._life(person)
        self._controls()
        self._late_reach()
        self._names()
        self._duplicates()
        self._strangers()
        self._last()
        self._hold_out()
        self._paths()
        self._by_variation()

    # -- who -----------------------------------------------------------------------------------------------------

    def _external(self, number: int) -> str:
        if number < len(_ODD_NAMES):
            return _ODD_NAMES[number]
        # Two profiles of one user, not merged.
        return "twice" if number in (20, 21) else f"user {number}"

    def _ledger(self) -> None:
        for n, person in enumerate(self.people):
            if self.random.random() < 0.15:
                continue
            names: list[tuple[str, str]] = []
            if person.external_id and self.random.random() < 0.85:
                names.append(("external_id", person.external_id))
            if not names or n % 11 == 0:
                names.append(("braze_id", person.profile))
            if n % 13 == 5:
                names.append(("email", f"{person.profile}@example.com"))
            if n % 13 == 7:
                names.append(("phone", f"+1555{n:04}"))
            if n % 8 == 4:
                self._two_names(person)
                names = []
            for name in names:
                if all((one["ID_KIND"], one["USER_ID"]) != name for one in self.world.membership):
                    person.stays += self._stays(*name)
            self.world.views.append(
                {
                    "USER_ID": person.profile,
                    "EXTERNAL_USER_ID": person.external_id,
                    "EMAIL_ADDRESS": f"{person.profile}@example.com",
                    "PHONE_NUMBER": f"+1555{n:04}",
                    "APP_GROUP_ID": APP_GROUP,
                    "TIME": 1,
                }
            )
        for n in range(5):
            self._stays("external_id", f"nobody knows {n}")
            # Of these no table says anything; one is called as somebody else is by another kind of name.
            self._stays("user_alias", _ODD_NAMES[0] if n == 0 else f"alias {n}")
            self._stays("device_id", f"device {n}")
        # Other cohorts and workspaces are none of ours.
        for row in self.world.membership[:6]:
            other = {"COHORT_ID": "others"} if row["HELD_OUT"] else {"WORKSPACE": "another"}
            self.world.membership.append(
                {**row, "HELD_OUT": False, "ENTERED_AT": "2026-01-01 00:00:00", "LEFT_AT": None, **other}
            )

    def _two_names(self, person: _Person) -> None:
        """Have the ledger know somebody by two names, of which one left for good and the other came later."""
        names = [("braze_id", person.profile)]
        if person.external_id:
            names.append(("external_id", person.external_id))
        self.random.shuffle(names)
        middle = self.random.choice([moment for moment in self.times if moment > _MOMENT][:120])
        for name, before in zip(names, (True, False), strict=False):
            if any((one["ID_KIND"], one["USER_ID"]) == name for one in self.world.membership):
                continue
            start = self.random.choice([moment for moment in self.times if (moment < middle) == before])
            held = self.random.random() < self.held
            person.stays.append(self._stay(*name, start, max(middle, start + 1) if before else None, held))

    def _stays(self, kind: str, user: str) -> list[tuple[int, int | None]]:
        number = self.random.choice((1, 1, 1, 2, 3))
        held = self.random.random() < self.held
        moments = sorted(self.random.sample(self.times, 2 * number))
        found: list[tuple[int, int | None]] = []
        for n in range(number):
            start, end = moments[2 * n], moments[2 * n + 1]
            is_open = n == number - 1 and self.random.random() < 0.6
            found.append(self._stay(kind, user, start, None if is_open else end, held))
            # Held out once, treated later, and the other way round.
            if self.held and self.random.random() < 0.3:
                held = not held
        return found

    def _stay(self, kind: str, user: str, start: int, end: int | None, held: bool) -> tuple[int, int | None]:
        if held:
            self.held_out.setdefault((kind, user), []).append((start, end))
        fraction = self.random.choice((0, 0, 0, 0, 0.25))
        import_id = self._import(start)
        self.world.membership.append(
            {
                "WORKSPACE": WORKSPACE,
                "COHORT_ID": COHORT,
                "PLACE": self.random.choice(("attribute:a", "attribute:a", "partner:b")),
                "ID_KIND": kind,
                "USER_ID": user,
                "ENTERED_AT": _text(start + fraction),
                "LEFT_AT": None if end is None else _text(end + fraction),
                "ENTERED_RUN": "run",
                "ENTERED_IMPORT": import_id,
                "HELD_OUT": held,
            }
        )
        return start, end

    def _import(self, start: int) -> str:
        import_id = f"i{next(self.imports)}"
        before = self.random.choice((0, 0, 1, 600, 86400, -60, None, "no row"))
        if before != "no row":
            started = None if before is None else _text(start - int(before))
            self.world.runs.append(
                {
                    "IMPORT_ID": import_id,
                    "WORKSPACE": WORKSPACE,
                    "COHORT_ID": COHORT,
                    "STATE": "finished",
                    "STARTED_AT": started,
                }
            )
        return import_id

    def _merge(self) -> None:
        """Merge some profiles into others, in chains; what was theirs stays written under the old ids."""
        orphans: list[_Person] = []
        for n, (chain, heir) in enumerate((("a", 3), ("ab", 7), ("abc", 12), ("a", 15), ("ab", 30))):
            survivor = self.people[heir]
            members = [_Person(f"orphan-{n}{one}", None, stays=survivor.stays) for one in chain]
            for old, new in zip(members, [*members[1:], survivor], strict=True):
                self._add("USERS_USERORPHAN", self._time(), old, ORPHANED_BY_ID=new.profile)
            orphans += members
        # One had an external id of its own, which the ledger knows; of another the ledger knows the Braze id.
        orphans[0].external_id = "user before"
        orphans[0].stays = self._stays("external_id", "user before")
        orphans[2].stays = self._stays("braze_id", orphans[2].profile)
        # Another workspace has merged a profile of the same id.
        row = self._row(
            "USERS_USERORPHAN", self._time(), self.people[5], ORPHANED_BY_ID=self.people[6].profile
        )
        self.world.share["USERS_USERORPHAN_SHARED"].append({**row, "APP_GROUP_ID": OTHER_APP_GROUP})
        self.people += orphans

    # -- when ----------------------------------------------------------------------------------------------------

    def _times(self) -> list[int]:
        """Return moments with many on, just before and just after the start of a day, in UTC and New York."""
        first, last = int(_FIRST.timestamp()), int(_LAST.timestamp()) - 432000
        found = [self.random.randrange(first, last) for _ in range(150)]
        day = _FIRST
        while day < _LAST - timedelta(days=5):
            for hours in (0, 4, 5):
                found += [int(day.timestamp()) + hours * 3600 + near for near in (-1, 0, 1)]
            day += timedelta(days=1)
        return sorted(set(found))

    def _time(self) -> int:
        return self.random.choice(self.times)

    def _time_of(self, person: _Person) -> int:
        if not person.stays or self.random.random() < 0.1:
            return self._time()
        start, end = self.random.choice(person.stays)
        # Of what lies outside of the period little is to be learnt.
        until = end or max(start + 864000, int(_LAST.timestamp()) - 432000)
        return self.random.choice(
            (
                start - 1,
                start,
                start + 1,
                until - 1,
                until,
                until + 1,
                *[self.random.randint(start, until)] * 6,
            )
        )

    def _later(self, moment: int) -> int:
        delta = self.random.choice((*_DELTAS, self.random.randrange(172800), self.random.randrange(7200)))
        return moment + delta

    # -- what ----------------------------------------------------------------------------------------------------

    def _row(self, table: str, moment: int, person: _Person, **more: Any) -> Row:
        name = f"{table}_SHARED"
        is_named = self.random.random() < self.named and not (person.is_quiet and table in _ENDS)
        columns = catalogue()[name]
        row: Row = {
            "ID": f"e{next(self.ids)}",
            "USER_ID": person.profile,
            "EXTERNAL_USER_ID": person.external_id if is_named else None,
            "APP_GROUP_ID": APP_GROUP,
            "TIME": moment,
            "SF_CREATED_AT": _text(moment + self.random.choice((30, 600, 7200, 172800)), zone="+00:00"),
            "MACHINE_OPEN": self.random.choice(_MACHINES),
            "IS_SUSPECTED_BOT_CLICK": self.random.choice((True, False, False, None, None)),
            **more,
        }
        return {column: value for column, value in row.items() if column in columns}

    def _add(self, table: str, moment: int, person: _Person, **more: Any) -> None:
        # Nothing is later than the last row of each table.
        canvas, variation = more.get("CANVAS_API_ID"), more.get("CANVAS_VARIATION_API_ID")
        if canvas and variation:
            # No two Canvases have one of the same id.
            more = {**more, "CANVAS_VARIATION_API_ID": f"{canvas} {variation}"}
        if moment < _ENDS.get(table, int(_LAST.timestamp())):
            self.world.share[f"{table}_SHARED"].append(self._row(table, moment, person, **more))

    def _message(self) -> Row:
        """Return the columns that name a message; now and then none, or both."""
        odd = self.random.random()
        if odd < 0.04:
            return {
                "CAMPAIGN_API_ID": self.random.choice(("", None)),
                "CANVAS_API_ID": self.random.choice(("", None)),
            }
        campaign, canvas = self.random.choice(CAMPAIGNS), self.random.choice(CANVASES)
        variations = {
            "MESSAGE_VARIATION_API_ID": self.random.choice(("A", "B", "", None)),
            "CANVAS_VARIATION_API_ID": self.random.choice(("X", "Y", "", None)),
        }
        if odd < 0.6:
            return {"CAMPAIGN_API_ID": campaign, **variations}
        empty = self.random.choice(("", None))
        return {"CAMPAIGN_API_ID": empty, "CANVAS_API_ID": canvas, **variations}

    def _first_reach(self) -> None:
        """Have most messages reach somebody at one moment, from which on the outcomes of those inside count."""
        inside = [one for one in self.people if any(_spans(stay, _MOMENT) for stay in one.stays)]
        for column, message in zip(("CAMPAIGN_API_ID", "CANVAS_API_ID"), NEW_MESSAGES, strict=True):
            for person in self.random.sample(inside, 3):
                self._add("USERS_MESSAGES_EMAIL_SEND", _MOMENT, person, **{column: message})
        for person in inside:
            for table in ("USERS_BEHAVIORS_PURCHASE", "USERS_BEHAVIORS_CUSTOMEVENT"):
                for _ in range(self.random.choice((0, 0, 1, 2))):
                    moment = _MOMENT + self.random.choice((1, -1)) * self.random.choice(_DELTAS)
                    self._add(table, moment, person, **self._goods())

    def _late_reach(self) -> None:
        """Have the new messages go on after the days that are asked about, while outcomes still count."""
        first, last = (int(datetime(2026, 3, day, tzinfo=UTC).timestamp()) for day in (8, 12))
        for person in self.people:
            for start, end in person.stays:
                if end is None and first < start < last and self.random.random() < 0.5:
                    moment = int(datetime(2026, 3, 16, 12, tzinfo=UTC).timestamp())
                    message = {"CAMPAIGN_API_ID": NEW_MESSAGES[0]}
                    self._add("USERS_MESSAGES_EMAIL_SEND", moment, person, **message)

    def _goods(self) -> Row:
        return {
            "PRICE": self.random.choice((0.0, 9.99, 19.5, 100.0, 45.25, -5.0, -5.0, None)),
            "CURRENCY": self.random.choice(("USD",) * 8 + ("EUR", "JPY")),
            "PRODUCT_ID": "thing",
            "NAME": self.random.choice(EVENTS),
        }

    def _journey(self, number: int) -> None:
        """Have a message sent to somebody, and what may come of it, in and out of order."""
        person = self.random.choice(self.members if number % 8 else self.people)
        channels = (*_CHANNELS, "email", "email", "push", "push", "push")
        channel = channels[number % len(channels)]
        tables = _CHANNELS[channel]
        message = self._message()
        moments = [self._time_of(person) for _ in range(8)]
        if {message.get("CAMPAIGN_API_ID"), message.get("CANVAS_API_ID")} & set(NEW_MESSAGES):
            moments = [moment for moment in moments if moment > _MOMENT + 60]
        if not moments:
            return
        moment = moments[0]
        device = {
            "DEVICE_ID": self.random.choice(("d1", "d2", None)),
            "DISPATCH_ID": self.random.choice(("x", None)),
        }
        sends = self.random.choice((0, 1, 1, 1, 1, 2, 3))
        if message.get("CANVAS_API_ID") and self.random.random() < 0.4:
            entered = moment - self.random.choice((0, 60, 3599, 3600, 86400))
            self._add("USERS_CANVAS_ENTRY", entered, person, **message, IN_CONTROL_GROUP=False)
        for n in range(sends):
            again = (
                {}
                if self.random.random() < 0.5
                else {"MESSAGE_VARIATION_API_ID": "B", "CANVAS_VARIATION_API_ID": "Y"}
            )
            at = moment if n == 0 else self._later(moment)
            self._add(f"USERS_MESSAGES_{tables['reach'][0]}", at, person, **{**message, **device, **again})
        for table in (*tables["after"], *tables.get("out", ())):
            for _ in range(self.random.choice((0, 1, 1, 2))):
                # Of a bounce the documentation leaves open what exactly a day later means.
                at = self._later(moment)
                if table.endswith("BOUNCE") and at - moment == 86400:
                    at += 1
                other = (
                    {}
                    if self.random.random() < 0.8
                    else {"DEVICE_ID": self.random.choice(("d1", "d2", None))}
                )
                self._add(f"USERS_MESSAGES_{table}", at, person, **{**message, **device, **other})
        self._credit(person, message, moment)

    def _credit(self, person: _Person, message: Row, moment: int) -> None:
        """Have Braze credit conversions and revenue to a message, and somebody opt out of it."""
        canvas = not message.get("CAMPAIGN_API_ID")
        conversions = ("USERS_CANVAS_CONVERSION", "USERS_CANVAS_EXPERIMENTSTEP_CONVERSION")
        for table in conversions if canvas else ("USERS_CAMPAIGNS_CONVERSION",):
            for _ in range(self.random.choice((0, 1, 1))):
                index = self.random.choice((0, 0, None, 1))
                self._add(table, self._later(moment), person, **message, CONVERSION_BEHAVIOR_INDEX=index)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            table = "USERS_CANVAS_REVENUE" if canvas else "USERS_CAMPAIGNS_REVENUE"
            cents = self.random.choice((0, 1, 999, 12345, None, -500))
            self._add(table, self._later(moment), person, **message, REVENUE=cents)
        for table in ("SUBSCRIPTION_GLOBALSTATECHANGE", "SUBSCRIPTIONGROUP_STATECHANGE"):
            if self.random.random() < 0.3:
                status = self.random.choice(("unsubscribed", "Unsubscribed", "subscribed", "opted_in", None))
                self._add(
                    f"USERS_BEHAVIORS_{table}",
                    self._later(moment),
                    person,
                    **message,
                    SUBSCRIPTION_STATUS=status,
                    CHANNEL=self.random.choice(("email", "push", None)),
                )

    def _life(self, person: _Person) -> None:
        """Have somebody do things of their own accord."""
        for table in ("USERS_BEHAVIORS_PURCHASE", "USERS_BEHAVIORS_CUSTOMEVENT"):
            for _ in range(self.random.choice((0, 0, 1, 2, 4))):
                start = self.random.choice(person.stays)[0] if person.stays else self._time()
                moment = self._later(start if self.random.random() < 0.5 else self._time_of(person))
                self._add(table, moment, person, **self._goods())
        for table in (
            "USERS_BEHAVIORS_APP_FIRSTSESSION",
            "USERS_BEHAVIORS_INSTALLATTRIBUTION",
            "USERS_BEHAVIORS_APP_SESSIONSTART",
            "USERS_RANDOMBUCKETNUMBERUPDATE",
        ):
            if self.random.random() < 0.4:
                self._add(table, self._time_of(person), person, SOURCE="ad", RANDOM_BUCKET_NUMBER=7)

    def _controls(self) -> None:
        """Have Braze keep people out of campaigns and Canvases."""
        for person in self.people:
            for _ in range(self.random.choice((0, 0, 1, 2))):
                campaign = {"CAMPAIGN_API_ID": self.random.choice(CAMPAIGNS)}
                self._add("USERS_CAMPAIGNS_ENROLLINCONTROL", self._time_of(person), person, **campaign)
            for _ in range(self.random.choice((0, 1, 2))):
                for table in ("USERS_CANVAS_ENTRY", "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY"):
                    moment = self._time_of(person)
                    self._add(
                        table,
                        moment,
                        person,
                        CANVAS_API_ID=self.random.choice(CANVASES),
                        EXPERIMENT_STEP_API_ID=STEPS[moment % len(STEPS)],
                        IN_CONTROL_GROUP=self.random.choice((True, False, False, None)),
                    )

    def _paths(self) -> None:
        """Have a step of the new Canvas send every other one of those inside down one of its paths."""
        inside = [one for one in self.people if any(_spans(stay, _MOMENT + 3600) for stay in one.stays)]
        for n, person in enumerate(inside[::2]):
            self._add(
                "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY",
                _MOMENT + 3600,
                person,
                CANVAS_API_ID=NEW_MESSAGES[1],
                EXPERIMENT_STEP_API_ID=STEPS[0],
                IN_CONTROL_GROUP=n % 3 == 0,
            )

    def _by_variation(self) -> None:
        """Have RCS messages of Canvases reach some: of those the share names the variation alone."""
        stranger = next(person for person in self.people if not person.stays)
        for canvas in CANVASES:
            known = {"CANVAS_API_ID": canvas, "CANVAS_VARIATION_API_ID": "X"}
            self._add("USERS_CANVAS_ENTRY", _MOMENT - 86400, stranger, **known, IN_CONTROL_GROUP=False)
        inside = [one for one in self.people if any(_spans(stay, _MOMENT + 7200) for stay in one.stays)]
        for n, person in enumerate(inside[1::2]):
            message = {"CANVAS_API_ID": CANVASES[n % 2], "CANVAS_VARIATION_API_ID": "XZ"[n % 5 == 4]}
            self._add("USERS_MESSAGES_RCS_SEND", _MOMENT + 7200, person, **message)
            self._add("USERS_MESSAGES_RCS_CLICK", _MOMENT + 7260, person, **message)

    def _names(self) -> None:
        for table, ids in (("CHANGELOGS_CAMPAIGN", CAMPAIGNS), ("CHANGELOGS_CANVAS", CANVASES[:1])):
            for api_id in ids:
                for version, moment in enumerate(sorted(self.random.sample(self.times, 2))):
                    self.world.share[f"{table}_SHARED"].append(
                        {
                            "ID": f"e{next(self.ids)}",
                            "TIME": moment,
                            "APP_GROUP_ID": APP_GROUP,
                            "API_ID": api_id,
                            "NAME": f"{api_id}, version {version}",
                        }
                    )

    # -- what is in the way -----------------------------------------------------------------------------------------

    def _duplicates(self) -> None:
        """Repeat rows: later with the same or another content, and earlier in another workspace."""
        for rows in self.world.share.values():
            for row in list(rows):
                if not _created(row) or self.random.random() > 0.15:
                    continue
                later = _text(row["TIME"] + self.random.choice((172801, 300000)), zone="+00:00")
                kind = self.random.choice(("same", "same", "changed", "theirs"))
                if kind == "same":
                    rows.append({**row, "SF_CREATED_AT": later})
                elif kind == "changed":
                    rows.append({**row, "SF_CREATED_AT": later, **self._changed(row)})
                else:
                    earlier = _text(row["TIME"] + 1, zone="+00:00")
                    rows.append({**row, "SF_CREATED_AT": earlier, "APP_GROUP_ID": OTHER_APP_GROUP})
            self.random.shuffle(rows)

    def _changed(self, row: Row) -> Row:
        changes: Row = {
            "USER_ID": self.random.choice(self.people).profile,
            "MACHINE_OPEN": "false",
            "IS_SUSPECTED_BOT_CLICK": False,
            "PRICE": 777.0,
            "REVENUE": 77700,
            "CONVERSION_BEHAVIOR_INDEX": 0,
            "ORPHANED_BY_ID": self.people[1].profile,
        }
        there = [column for column in changes if column in row]
        return {column: changes[column] for column in self.random.sample(there, min(2, len(there)))}

    def _strangers(self) -> None:
        """Have another workspace's people in the same share, with ids that are ours too."""
        for rows in self.world.share.values():
            some = [row for row in rows if row["APP_GROUP_ID"] == APP_GROUP]
            for row in some[: len(some) // 8]:
                rows.append({**row, "ID": f"e{next(self.ids)}", "APP_GROUP_ID": OTHER_APP_GROUP})

    def _last(self) -> None:
        """End each table with nobody's row, and the goals' with others that say nothing of how far they reach."""
        nobody = _Person("the last", None)
        plain = {"MACHINE_OPEN": None, "IS_SUSPECTED_BOT_CLICK": None, "NAME": "the end", "CURRENCY": "USD"}
        for table in TABLES:
            if table == "USERS_USERORPHAN_SHARED":
                continue
            name = table.removesuffix("_SHARED")
            end = _ENDS.get(name, int(_LAST.timestamp()))
            self.world.share[table].append(self._row(name, end, nobody, **plain))
            if name in _ENDS:
                theirs = {**self._row(name, end + 7200, nobody, **plain), "APP_GROUP_ID": OTHER_APP_GROUP}
                to_come = self._row(name, int(NOW.timestamp()) + 3600, nobody, **plain)
                self.world.share[table] += [theirs, to_come]

    def _hold_out(self) -> None:
        """Have the new messages keep to the cohort, but for a few: where both groups were sent one there is no verdict.

        More users are held out, and sent nothing, so that one who was sent it is a share with which there is one.
        """
        for n in range(12 if self.held else 0):
            self._stay("external_id", f"held out {n}", _MOMENT - 3600 * n, None, True)
        names = {
            person.profile: [("braze_id", person.profile), ("external_id", person.external_id or "")]
            for person in self.people
        }
        leaks: dict[tuple[str, str], list[str]] = {}
        for table, rows in self.world.share.items():
            for row in rows if table.startswith("USERS_MESSAGES_") else ():
                message = next((one for one in NEW_MESSAGES if one in row.values()), "")
                held = [
                    stay for name in names.get(row["USER_ID"], ()) for stay in self.held_out.get(name, ())
                ]
                if message and any(_spans(stay, row["TIME"]) for stay in held):
                    leaks.setdefault((message, row["USER_ID"]), []).append(row["ID"])
        for one in [one for one in leaks if one[0] == NEW_MESSAGES[0]][:1]:
            del leaks[one]
        gone = {one for ids in leaks.values() for one in ids}
        for rows in self.world.share.values():
            rows[:] = [row for row in rows if row["ID"] not in gone]


def _spans(stay: tuple[int, int | None], moment: int) -> bool:
    return stay[0] <= moment and (stay[1] is None or moment < stay[1])


def make_world(
    seed: int, *, held: float = 0.3, users: int = 60, journeys: int = 300, named: float = 0.8
) -> World:
    """Return a world.

    :param held: the share of users who are held out; 0: nobody.
    :param named: the share of rows of users with an external id that say it.
    :param users: profiles, besides those merged into them.
    :param journeys: messages sent, with what came of each.
    """
    return _Maker(seed, held=held, users=users, journeys=journeys, named=named).world


def _text(moment: float, zone: str = "") -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f") + zone


# -- into the local Snowflake -------------------------------------------------------------------------------------


def fill_share(connection: SnowflakeConnection, share: str, rows: Mapping[str, Sequence[Row]]) -> None:
    """Make a share of some tables, and write rows into them."""
    make_share_tables(connection, share, without=catalogue().keys() - rows.keys())
    add_rows(connection, share, rows)


def copy_share(
    connection: SnowflakeConnection, source: str, share: str, tables: Iterable[str], *, suffix: str = ""
) -> None:
    """Make another share of some tables of one.

    :param suffix: what their names end in there.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
        ((database, schema),) = cursor.fetchall()
        cursor.execute(f"CREATE SCHEMA {share}")
        for table in tables:
            cursor.execute(f"CREATE TABLE {share}.{table}{suffix} AS SELECT * FROM {source}.{table}")
        cursor.execute(f'USE SCHEMA "{database}"."{schema}"')


def add_rows(connection: SnowflakeConnection, schema: str, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write rows into tables that are there."""
    with connection.cursor() as cursor:
        for table, found in rows.items():
            for some in chunks(found):
                columns = sorted({column for row in some for column in row})
                values = ", ".join(["(" + ", ".join(["%s"] * len(columns)) + ")"] * len(some))
                cursor.execute(
                    f"INSERT INTO {schema}.{table} ({', '.join(columns)}) VALUES {values}",
                    [row.get(column) for row in some for column in columns],
                )


def fill_view(connection: SnowflakeConnection, share: str, rows: Iterable[Row]) -> None:
    """Give a share the view that names its users."""
    texts = ("USER_ID", "EXTERNAL_USER_ID", "EMAIL_ADDRESS", "PHONE_NUMBER", "APP_GROUP_ID")
    columns = ", ".join((*(f"{name} VARCHAR" for name in texts), "TIME NUMBER(38,0)"))
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {share}.{LATEST_DEFAULT} ({columns})")
    add_rows(connection, share, {LATEST_DEFAULT: list(rows)})
