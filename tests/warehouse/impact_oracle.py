"""What an impact is, said in pandas over whole tables: the tests' oracle. Plain rather than quick."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_kubit_braze.core.impact.figures import Course
from airflow_provider_kubit_braze.core.share_catalogue import catalogue, table_in
from airflow_provider_kubit_braze.core.share_figures import FIGURES, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Row = dict[str, Any]

PURCHASES: Final = "USERS_BEHAVIORS_PURCHASE_SHARED"
EVENTS: Final = "USERS_BEHAVIORS_CUSTOMEVENT_SHARED"
ORPHANS: Final = "USERS_USERORPHAN_SHARED"
CONTROLS: Final = "USERS_CAMPAIGNS_ENROLLINCONTROL_SHARED"
ENTRIES: Final = "USERS_CANVAS_ENTRY_SHARED"
PATHS: Final = "USERS_CANVAS_EXPERIMENTSTEP_SPLITENTRY_SHARED"
UNSUBSCRIBE: Final = "USERS_MESSAGES_EMAIL_UNSUBSCRIBE_SHARED"
SPAM: Final = "USERS_MESSAGES_EMAIL_MARKASSPAM_SHARED"
BOUNCES: Final = "USERS_MESSAGES_PUSHNOTIFICATION_BOUNCE_SHARED"

#: Kinds that no table of a share names, and those that only its profile views do.
_NAMELESS: Final = ("user_alias", "device_id")
_OF_VIEWS: Final = {"email": "EMAIL_ADDRESS", "phone": "PHONE_NUMBER"}

#: A bounce that comes later than this after a push says nothing of it.
_DAY: Final = 86400

#: Figures that react to a message of a channel, in the order in which they stand in for a reach.
_REACTIONS: Final = ("delivered", "seen", "clicked")

FIGURE_NAMES: Final = ("reached", "sends", *_REACTIONS, "converted", "revenue", "opted_out")

Message = tuple[str, str]
User = tuple[str, str]


class Question(Protocol):
    """What is asked: ``core.impact.question.ImpactQuestion``."""

    @property
    def app_group_id(self) -> str: ...
    @property
    def campaigns(self) -> Sequence[str]: ...
    @property
    def canvases(self) -> Sequence[str]: ...
    @property
    def goal(self) -> str: ...
    @property
    def window(self) -> timedelta: ...
    @property
    def since(self) -> date | None: ...
    @property
    def until(self) -> date | None: ...
    @property
    def timezone(self) -> str: ...
    @property
    def currency(self) -> str | None: ...


class Stay(NamedTuple):
    """A stay of a ledger user; times in seconds since 1970, ``end`` exclusive, None while it lasts."""

    user: User
    start: int
    end: int | None
    held: bool


@dataclass(frozen=True)
class Sums:
    """A group of an experiment."""

    users: int
    converters: int
    buyers: int
    total: float
    squares: float


@dataclass(frozen=True)
class Compared:
    """An experiment.

    :param reached: of the treated, those with a counted reach in their own outcome period.
    :param control_reached: of those held out, those who were sent it in the period before their outcomes end.
    :param ever_reached: of the treated, those with one in it, or after it and in the days that are asked about.
    :param open_users: left out, as their outcome period is not over.
    """

    treated: Sums
    control: Sums
    reached: int
    control_reached: int
    ever_reached: int
    open_users: int


def read_stays(
    membership: Iterable[Row], runs: Iterable[Row], *, workspace: str, cohort_id: str
) -> list[Stay]:
    """Return the stays of a cohort, earliest first."""
    started = {row["IMPORT_ID"]: seconds(row["STARTED_AT"]) for row in runs}
    found = []
    for row in membership:
        if (row["WORKSPACE"], row["COHORT_ID"]) != (workspace, cohort_id):
            continue
        entered = seconds(row["ENTERED_AT"])
        assert entered is not None
        before = started.get(row["ENTERED_IMPORT"])
        start = entered if before is None else min(entered, before)
        left = seconds(row["LEFT_AT"])
        # The share's clock knows whole seconds only, so what is compared with it does, too.
        end = None if left is None else int(left)
        found.append(Stay((row["ID_KIND"], row["USER_ID"]), int(start), end, row["HELD_OUT"]))
    return sorted(found, key=lambda stay: (stay.start, stay.user))


def seconds(moment: Any) -> float | None:
    """Return a time of the ledger, which is UTC, as seconds since 1970."""
    if moment is None:
        return None
    read = moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)
    return read.replace(tzinfo=read.tzinfo or UTC).timestamp()


class Oracle:
    """The answers to one question.

    :param share: table -> its rows; what is not there, the share lacks.
    :param stays: the cohort's, held out or not.
    :param question: what is asked, with both days.
    :param views: rows of a profile view.
    :param now: what is later has not happened; None: nothing is.
    """

    def __init__(
        self,
        share: Mapping[str, Sequence[Row]],
        stays: Sequence[Stay],
        question: Question,
        views: Sequence[Row] = (),
        now: datetime | None = None,
    ) -> None:
        self.share = share
        self.stays = stays
        self.question = question
        self.views = views
        self.now = None if now is None else now.timestamp()
        self.window = int(question.window.total_seconds())
        there = {name: catalogue()[name.removesuffix("_ALL")].keys() for name in share}
        self.possible = {(one.figure.name, one.figure.scope) for one in judge(there) if one.possible}
        self.read: dict[str, pd.DataFrame] = {}
        self.about: dict[tuple[str, bool], pd.DataFrame] = {}

    # -- which rows count ------------------------------------------------------------------------------------------

    def rows(self, table: str) -> pd.DataFrame:
        """Return a table's rows of the workspace, each once, with nobody named yet."""
        if table not in self.read:
            columns = ["ID", "USER_ID", "APP_GROUP_ID", "TIME", *catalogue()[table]]
            name = table_in(self.share, table)
            found = pd.DataFrame(
                self.share[name] if name else [], columns=list(dict.fromkeys(columns)), dtype=object
            )
            found = found[found["APP_GROUP_ID"] == self.question.app_group_id]
            if "SF_CREATED_AT" in found:
                found = found.sort_values("SF_CREATED_AT", kind="stable")
            found = found.drop_duplicates("ID", keep="first").reset_index(drop=True)
            # An own CHANNEL of a subscription state would be taken for the message's.
            self.read[table] = found.drop(columns="CHANNEL", errors="ignore").where(found.notna(), None)
        return self.read[table]

    @cached_property
    def heirs(self) -> dict[str, str]:
        """Profile that was merged -> the profile it was merged into."""
        merged = self.rows(ORPHANS)
        return dict(zip(merged["USER_ID"], merged["ORPHANED_BY_ID"], strict=True))

    def survivor(self, profile: str) -> str:
        """Return the profile that a profile's rows belong to."""
        while profile in self.heirs:
            profile = self.heirs[profile]
        return profile

    def named(self, tables: Iterable[str]) -> dict[str, set[User]]:
        """Return surviving profile -> the ledger users that it is.

        :param tables: whose rows say what a profile's external id is.
        """
        ledger = {stay.user for stay in self.stays}
        names: dict[str, set[User]] = {}
        for kind, user in ledger:
            if kind == "braze_id":
                names.setdefault(self.survivor(user), set()).add((kind, user))
        for table in tables:
            rows = self.measured_days(self.rows(table))
            if "EXTERNAL_USER_ID" in rows:
                for profile, external in zip(rows["USER_ID"], rows["EXTERNAL_USER_ID"], strict=True):
                    if external is not None:
                        names.setdefault(self.survivor(profile), set()).add(("external_id", external))
        for row in self.views:
            for kind, column in {"external_id": "EXTERNAL_USER_ID", **_OF_VIEWS}.items():
                names.setdefault(self.survivor(row["USER_ID"]), set()).add((kind, row[column]))
        return {profile: some & ledger for profile, some in names.items() if some & ledger}

    @cached_property
    def people(self) -> dict[str, set[User]]:
        """Who is who to the funnel."""
        return self.named(self.scanned)

    @cached_property
    def owners(self) -> dict[str, User]:
        """Surviving profile -> the ledger user who stands for it in the funnel."""
        return {profile: self.standing(users) for profile, users in self.people.items()}

    @cached_property
    def doers(self) -> dict[str, User]:
        """Surviving profile -> the ledger user who did what it did. Messages name nobody: not all are sent any."""
        tables = [PURCHASES] if self.question.goal == "purchase" else [PURCHASES, EVENTS]
        return {profile: self.standing(users) for profile, users in self.named(tables).items()}

    def standing(self, users: Iterable[User]) -> User:
        """Return who of a profile's ledger users stands for it: whose stays end last."""
        return min(users, key=lambda user: (-self.ends[user], user))

    @cached_property
    def ends(self) -> dict[User, float]:
        """Ledger user -> when the last stay ends."""
        found: dict[User, float] = {}
        for stay in self.stays:
            end = float("inf") if stay.end is None else stay.end
            found[stay.user] = max(end, found.get(stay.user, end))
        return found

    def measured_days(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the period, and of the days around it that a window may reach into."""
        first, last = self.question.since, self.question.until
        assert first is not None
        assert last is not None
        around = timedelta(days=-(-self.window // _DAY))
        zone = ZoneInfo(self.question.timezone)
        days = (datetime.fromtimestamp(int(moment), zone).date() for moment in rows["TIME"])
        return _where(rows, [first - around <= day <= last + around for day in days])

    @property
    def scanned(self) -> list[str]:
        """The tables that measuring reads for people's names."""
        told = ("reached", *_REACTIONS, "converted", "revenue", "opt-outs", "control group")
        tables = [
            need.table
            for figure in FIGURES
            for need in figure.needs
            if figure.name in told and table_in(self.share, need.table)
        ]
        return tables if self.question.goal == "purchase" else [*tables, EVENTS]

    def events(self, table: str, owners: Mapping[str, User] | None = None) -> pd.DataFrame:
        """Return the rows of ledger users: USER, PROFILE, T, KIND, MESSAGE, VARIATION and the table's own columns.

        :param owners: who is who; None: as the funnel has it.
        """
        owners = self.owners if owners is None else owners
        rows = self.rows(table).copy()
        rows["PROFILE"] = _objects(rows, [self.survivor(one) for one in rows["USER_ID"]])
        rows["USER"] = _objects(rows, [owners.get(one) for one in rows["PROFILE"]])
        rows = _where(rows, [user is not None for user in rows["USER"]]).copy()
        rows["T"] = rows["TIME"].astype("int64")
        zone = ZoneInfo(self.question.timezone)
        rows["DAY"] = _objects(rows, [datetime.fromtimestamp(moment, zone).date() for moment in rows["T"]])
        if table == "USERS_MESSAGES_EMAIL_OPEN_SHARED":
            rows = _where(rows, [str(said).lower() != "true" for said in rows["MACHINE_OPEN"]])
        if "IS_SUSPECTED_BOT_CLICK" in rows:
            rows = _where(rows, [said is not True for said in rows["IS_SUSPECTED_BOT_CLICK"]])
        messages = [_message(self._with_canvas(row)) for row in rows.to_dict("records")]
        for n, column in enumerate(("KIND", "MESSAGE", "VARIATION")):
            rows[column] = _objects(rows, [one[n] for one in messages])
        return rows.reset_index(drop=True)

    def _with_canvas(self, row: Row) -> Row:
        """Return a row with the Canvas that its variation is of, when it names the variation alone."""
        if "CANVAS_API_ID" in row or row.get("CANVAS_VARIATION_API_ID") not in self.variations:
            return row
        return {**row, "CANVAS_API_ID": self.variations[row["CANVAS_VARIATION_API_ID"]]}

    @cached_property
    def variations(self) -> dict[str, str]:
        """Variation of a Canvas -> the Canvas, by whoever got into it; the world is younger than 90 days."""
        entries = self.rows(ENTRIES)
        return {
            variation: canvas
            for canvas, variation in zip(
                entries["CANVAS_API_ID"], entries["CANVAS_VARIATION_API_ID"], strict=True
            )
            if canvas and variation
        }

    def during_a_stay(self, events: pd.DataFrame, *, held: bool = False) -> pd.DataFrame:
        """Return those that lie inside a stay, as treated, of any of the ledger users that the profile is.

        :param held: those instead that lie inside stays, all of them as held out.
        """
        stays: dict[User, list[Stay]] = {}
        for stay in self.stays:
            stays.setdefault(stay.user, []).append(stay)
        inside = []
        for profile, moment in zip(events["PROFILE"], events["T"], strict=True):
            there = {
                stay.held
                for user in self.people[profile]
                for stay in stays[user]
                if stay.start <= moment and (stay.end is None or moment < stay.end)
            }
            inside.append(there == {True} if held else False in there)
        return _where(events, inside).reset_index(drop=True)

    def about_messages(self, table: str, *, held: bool = False) -> pd.DataFrame:
        """Return a table's counted rows that are about a message that is asked for.

        :param held: as for ``during_a_stay``.
        """
        if (table, held) not in self.about:
            self.about[table, held] = self._about_messages(table, held)
        return self.about[table, held]

    def _about_messages(self, table: str, held: bool) -> pd.DataFrame:
        events = self.during_a_stay(self.events(table), held=held)
        campaigns, canvases = self.question.campaigns, self.question.canvases
        asked = [
            message != ""
            and (not (campaigns or canvases) or message in {"campaign": campaigns, "canvas": canvases}[kind])
            for kind, message in zip(events["KIND"], events["MESSAGE"], strict=True)
        ]
        return _where(events, asked).reset_index(drop=True)

    # -- the funnel --------------------------------------------------------------------------------------------------

    @cached_property
    def channels(self) -> list[str]:
        """The channels that messages go through."""
        return [figure.scope for figure in FIGURES if figure.name == "reached"]

    def of_channel(self, figure: str, channel: str, *, held: bool = False) -> pd.DataFrame | None:
        """Return the counted rows of a figure of a channel, whether or not anything reached the user before.

        :param held: as for ``during_a_stay``.
        """
        if (figure, channel) not in self.possible:
            return None
        [needs] = [one.needs for one in FIGURES if (one.name, one.scope) == (figure, channel)]
        if (figure, channel) == ("delivered", "push"):
            sends, bounces = self.about_messages(needs[0].table, held=held), self.events(BOUNCES)
            times: dict[tuple[Any, ...], list[int]] = {}
            for bounce in bounces.to_dict("records"):
                times.setdefault(_push(bounce), []).append(bounce["T"])
            return _where(
                sends,
                [
                    not any(0 <= t - send["T"] < _DAY for t in times.get(_push(send), ()))
                    for send in sends.to_dict("records")
                ],
            )
        return pd.concat([self.about_messages(need.table, held=held) for need in needs], ignore_index=True)

    @cached_property
    def reaches(self) -> pd.DataFrame:
        """Every counted reach, or what stands in for one, of any day."""
        return self._reaches(held=False)

    @cached_property
    def leaks(self) -> pd.DataFrame:
        """The same of those who were held out then, whom nothing was to reach."""
        return self._reaches(held=True)

    def _reaches(self, *, held: bool) -> pd.DataFrame:
        found = []
        for channel in self.channels:
            for figure in ("reached", *_REACTIONS):
                rows = self.of_channel(figure, channel, held=held)
                if rows is not None:
                    found.append(rows.assign(CHANNEL=channel, KNOWN=figure == "reached"))
                    break
        columns = ["USER", "KIND", "MESSAGE", "VARIATION", "T", "DAY", "CHANNEL", "KNOWN"]
        return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)

    def linked(self, rows: pd.DataFrame, channel: str | None = None) -> pd.DataFrame:
        """Return the rows that a reach came before, with the channel and variation of the latest such reach.

        :param channel: of the reach; None for any.
        """
        reaches = self.reaches if channel is None else self.reaches[self.reaches["CHANNEL"] == channel]
        reaches = reaches.drop(columns="KNOWN").rename(
            columns={"T": "REACHED_AT", "DAY": "REACH_DAY", "VARIATION": "OF"}
        )
        rows = rows.drop(columns=["VARIATION"]).reset_index(drop=True)
        rows["ROW"] = range(len(rows))
        pairs = rows.merge(reaches, on=["USER", "KIND", "MESSAGE"])
        age = pairs["T"] - pairs["REACHED_AT"]
        pairs = pairs[(age >= 0) & (age < self.window)]
        latest = pairs.sort_values(["ROW", "REACHED_AT", "CHANNEL", "OF"]).drop_duplicates("ROW", keep="last")
        return latest.rename(columns={"OF": "VARIATION"})

    @cached_property
    def ever(self) -> pd.DataFrame:
        """Every counted row: FIGURE, USER, KIND, MESSAGE, CHANNEL, VARIATION, T, DAY, AMOUNT, and its reach's day."""
        known = self.reaches[self.reaches["KNOWN"].astype(bool)]
        found = [known.assign(FIGURE="reached", AMOUNT=0.0, REACH_DAY=known["DAY"])]
        for channel in self.channels:
            for figure in _REACTIONS:
                rows = self.of_channel(figure, channel)
                if rows is not None:
                    found.append(self.linked(rows, channel).assign(FIGURE=figure, AMOUNT=0.0))
        found += [*self._converted(), *self._revenue(), *self._opted_out()]
        columns = [
            "FIGURE",
            "USER",
            "KIND",
            "MESSAGE",
            "CHANNEL",
            "VARIATION",
            "T",
            "DAY",
            "REACH_DAY",
            "AMOUNT",
        ]
        rows = pd.concat([one[columns] for one in found if len(one)] or [pd.DataFrame(columns=columns)])
        return rows.reset_index(drop=True)

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The reaches of the period with all that followed them, whenever it did."""
        return self.in_period(self.ever, "REACH_DAY")

    @cached_property
    def happened(self) -> pd.DataFrame:
        """What happened in the period, whichever reach it followed."""
        return self.in_period(self.ever, "DAY")

    def in_period(self, rows: pd.DataFrame, column: str) -> pd.DataFrame:
        """Return the rows whose day lies in the period.

        :param column: which of their days.
        """
        first, last = self.question.since, self.question.until
        assert first is not None
        assert last is not None
        return _where(rows, [first <= day <= last for day in rows[column]]).reset_index(drop=True)

    def _credited(self, figure: str) -> list[pd.DataFrame]:
        """Return what Braze credits to campaigns, Canvases and experiment steps."""
        needs = [
            need.table
            for one in FIGURES
            if one.name == figure and one.scope != "purchases" and (figure, one.scope) in self.possible
            for need in one.needs
        ]
        return [self.about_messages(table) for table in needs]

    def _converted(self) -> list[pd.DataFrame]:
        found = []
        for rows in self._credited("converted"):
            primary = _where(
                rows, [index is None or int(index) == 0 for index in rows["CONVERSION_BEHAVIOR_INDEX"]]
            )
            found.append(self.linked(primary).assign(FIGURE="converted", AMOUNT=0.0))
        return found

    def _revenue(self) -> list[pd.DataFrame]:
        found = []
        for rows in self._credited("revenue"):
            linked = self.linked(rows)
            amounts = [0.0 if cents is None else cents / 100 for cents in linked["REVENUE"]]
            found.append(linked.assign(FIGURE="revenue", AMOUNT=amounts))
        return found

    def _opted_out(self) -> list[pd.DataFrame]:
        found = []
        if ("opt-outs", "email") in self.possible:
            # What is unsubscribed from is a mail: a push of the same message is no reason for it.
            found += [self.linked(self.about_messages(table), "email") for table in (UNSUBSCRIBE, SPAM)]
        for scope in ("subscription states", "subscription groups"):
            if ("opt-outs", scope) in self.possible:
                [need] = next(one.needs for one in FIGURES if (one.name, one.scope) == ("opt-outs", scope))
                rows = self.about_messages(need.table)
                gone = _where(
                    rows, [str(said).lower() == "unsubscribed" for said in rows["SUBSCRIPTION_STATUS"]]
                )
                found.append(self.linked(gone))
        return [one.assign(FIGURE="opted_out", AMOUNT=0.0) for one in found]

    @cached_property
    def messages(self) -> list[Message]:
        """Every message that reached somebody in the period."""
        found = self.counted[["KIND", "MESSAGE"]].drop_duplicates()
        return sorted(zip(found["KIND"], found["MESSAGE"], strict=True))

    def figures(self, rows: pd.DataFrame, of: pd.DataFrame | None = None) -> dict[str, float | None]:
        """Return the funnel of some counted rows.

        :param of: the rows of the message that they are a part of: a total is None where the share cannot tell the
            figure in one of the message's channels that has it; None: they are the whole.
        """
        users = rows.groupby("FIGURE")["USER"].nunique()
        found: dict[str, float | None] = {figure: int(users.get(figure, 0)) for figure in FIGURE_NAMES}
        found["sends"] = int((rows["FIGURE"] == "reached").sum())
        found["revenue"] = round(float(rows["AMOUNT"].sum()), 2)
        whole = rows if of is None else of
        kinds, channels = set(whole["KIND"]), set(whole["CHANNEL"])
        return {
            figure: value if self.is_known(figure, kinds, channels) else None
            for figure, value in found.items()
        }

    def is_known(self, figure: str, kinds: set[str], channels: set[str]) -> bool:
        """Whether the share can tell a figure in all of some channels that have it."""
        name = "reached" if figure == "sends" else figure
        if name in ("reached", *_REACTIONS):
            having = {
                scope for scope in channels if any((one.name, one.scope) == (name, scope) for one in FIGURES)
            }
            return bool(having) and all((name, channel) in self.possible for channel in having)
        if figure == "opted_out":
            states = {
                ("opt-outs", "subscription states"),
                ("opt-outs", "subscription groups"),
            } & self.possible
            return bool(channels) and all(
                states or (channel == "email" and ("opt-outs", "email") in self.possible)
                for channel in channels
            )
        of_kind = {"campaign": ("campaigns",), "canvas": ("Canvases", "experiment steps")}
        return bool(channels) and all(
            any((figure, scope) in self.possible for scope in of_kind[kind]) for kind in kinds
        )

    def grouped(self, rows: pd.DataFrame, *columns: str) -> dict[tuple[Any, ...], dict[str, float | None]]:
        """Return the funnel of each value of some columns."""
        return {key: self.figures(some) for key, some in rows.groupby(list(columns))}

    def of(self, message: Message | None, among: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return the rows of a message; None: of all.

        :param among: of these rows; None: of the counted ones.
        """
        rows = self.counted if among is None else among
        return rows if message is None else _about(rows, message)

    # -- the experiment ----------------------------------------------------------------------------------------------

    def latest(self, tables: Iterable[str]) -> int | None:
        """Return the moment of the last row of some tables, whoever's and whatever it is."""
        times = [int(t) for table in tables for t in self.rows(table)["TIME"]]
        return max((t for t in times if self.now is None or t <= self.now), default=None)

    @property
    def data_until(self) -> int | None:
        """The moment of the share's last row."""
        return self.latest(self.scanned)

    @cached_property
    def goal_until(self) -> int | None:
        """The moment until which the share would have the goal."""
        return self.latest([PURCHASES if self.question.goal == "purchase" else EVENTS])

    @cached_property
    def goals(self) -> pd.DataFrame:
        """Every goal event of ledger users. Whoever only gives something back has not bought anything."""
        if self.question.goal == "purchase":
            rows = self.events(PURCHASES, self.doers)
            return _where(rows, [price is None or price >= 0 for price in rows["PRICE"]])
        events = self.events(EVENTS, self.doers)
        return events[events["NAME"] == self.question.goal]

    @cached_property
    def purchases(self) -> pd.DataFrame:
        """Every purchase of ledger users that has a price."""
        rows = self.events(PURCHASES, self.doers)
        return _where(rows, [price is not None for price in rows["PRICE"]])

    @cached_property
    def currency(self) -> str | None:
        """The currency that revenue is judged in."""
        first = self.question.since
        assert first is not None
        rows = self.measured_days(self.events(PURCHASES, self.doers))
        rows = _where(rows, [day >= first for day in rows["DAY"]])
        counts = sorted((-number, name) for name, number in rows["CURRENCY"].value_counts().items() if name)
        return self.question.currency or (counts[0][1] if counts else None)

    @property
    def can_compare(self) -> bool:
        """Whether the share has what tells the goal, and anything in it."""
        goal = (
            ("revenue", "purchases")
            if self.question.goal == "purchase"
            else ("life of a user", "custom events")
        )
        return goal in self.possible and self.goal_until is not None

    def run_of(self, message: Message | None) -> tuple[int, int] | None:
        """Return the first and the last moment in the period at which a message reached somebody."""
        reaches = self.of(message, self.in_period(self.reaches, "DAY"))
        return (int(reaches["T"].min()), int(reaches["T"].max())) if len(reaches) else None

    @cached_property
    def long_before(self) -> Oracle:
        """The same of the days before those that are measured, in the year before the period."""
        return _LongBefore(
            self.share, self.stays, self.question, self.views, None if self.now is None else _moment(self.now)
        )

    def course_of(self, message: Message | None) -> Course:
        """Whether more may come: the days go on, and it is not silent for twice as long as it has been before."""
        last = self.question.until
        assert last is not None
        assert self.goal_until is not None
        over = datetime(last.year, last.month, last.day, tzinfo=ZoneInfo(self.question.timezone)) + timedelta(
            1
        )
        if self.goal_until >= over.timestamp():
            return Course.OVER
        reaches = self.of(message, self.in_period(self.reaches, "DAY"))
        days = sorted(set(reaches["DAY"]))
        gaps = [(days[n] - days[n - 1]).days for n in range(1, len(days))]
        silence = (self.goal_until - int(reaches["T"].max())) / _DAY
        if silence <= 2 * max(gaps, default=0):
            return Course.RUNNING
        return Course.QUIET if silence <= 35 else Course.OVER

    def began_before(self, message: Message | None) -> bool:
        """Whether a message had reached somebody in the year before the period."""
        first = self.question.since
        assert first is not None
        asked = self.messages if message is None else [message]
        return any(
            day < first and (kind, one) in asked
            for oracle in (self, self.long_before)
            for before in [oracle.measured_days(oracle.reaches.assign(TIME=oracle.reaches["T"]))]
            for day, kind, one in zip(before["DAY"], before["KIND"], before["MESSAGE"], strict=True)
        )

    def is_nameable(self, user: User) -> bool:
        """Whether the share can say anything of a user of this kind."""
        return user[0] not in _NAMELESS and (bool(self.views) or user[0] not in _OF_VIEWS)

    def units(self, message: Message | None) -> dict[User, tuple[bool, float]]:
        """Return who takes part -> held out, and the moment from which on outcomes count."""
        run = self.run_of(message)
        found: dict[User, tuple[bool, float]] = {}
        if run is None:
            return found
        first = self.question.since
        assert first is not None
        midnight = datetime(first.year, first.month, first.day, tzinfo=ZoneInfo(self.question.timezone))
        # What those did who were there before is what the message may have made of them already.
        since = midnight.timestamp() if self.began_before(message) else float("-inf")
        for stay in self.stays:
            overlaps = stay.start <= run[1] and (stay.end is None or stay.end > run[0])
            if overlaps and stay.start >= since and self.is_nameable(stay.user) and stay.user not in found:
                found[stay.user] = (stay.held, max(stay.start, run[0]))
        return found

    def experiment(self, message: Message | None) -> Compared:
        """Return the groups of the cohort's own experiment."""
        return self._compared(message, self.units(message))

    def _compared(self, message: Message | None, units: Mapping[User, tuple[bool, float]]) -> Compared:
        closed = {user: unit for user, unit in units.items() if self.is_over(unit[1])}
        treated = {user: anchor for user, (held, anchor) in closed.items() if not held}
        control = {user: anchor for user, (held, anchor) in closed.items() if held}
        reaches = self.known_reaches(message)
        last = self.question.until
        assert last is not None
        reached, ever = set(), set()
        for user, t, day in zip(reaches["USER"], reaches["T"], reaches["DAY"], strict=True):
            if user in treated and t - treated[user] >= 0:
                in_time = t - treated[user] < self.window
                reached |= {user} if in_time else set()
                ever |= {user} if in_time or day <= last else set()
        leaks = self.of(message, self.in_period(self.leaks, "DAY"))
        leaked = {
            user
            for user, t in zip(leaks["USER"], leaks["T"], strict=True)
            if user in control and t < control[user] + self.window
        }
        return Compared(
            treated=self.sums(treated),
            control=self.sums(control),
            reached=len(reached),
            control_reached=len(leaked),
            ever_reached=len(ever),
            open_users=len(units) - len(closed),
        )

    def known_reaches(self, message: Message | None) -> pd.DataFrame:
        """Return the reaches of a message, or of all, without what stands in for one."""
        return self.of(message, self.reaches[self.reaches["KNOWN"].astype(bool)])

    def is_over(self, anchor: float) -> bool:
        """Whether the data reach as far as an outcome period."""
        return self.goal_until is not None and anchor + self.window <= self.goal_until

    def sums(self, anchors: Mapping[User, float], *, before: bool = False) -> Sums:
        """Return the sums of a group.

        :param anchors: user -> where the period begins, or with ``before`` ends.
        """
        start = -self.window if before else 0

        def counts(user: User, moment: int) -> bool:
            return user in anchors and start <= moment - anchors[user] < start + self.window

        converters = {
            user for user, t in zip(self.goals["USER"], self.goals["T"], strict=True) if counts(user, t)
        }
        spent: dict[User, float] = {}
        for one in self.purchases.to_dict("records"):
            if one["CURRENCY"] == self.currency and counts(one["USER"], one["T"]):
                spent[one["USER"]] = spent.get(one["USER"], 0.0) + one["PRICE"]
        return Sums(
            users=len(anchors),
            converters=len(converters),
            buyers=sum(amount != 0 for amount in spent.values()),
            total=sum(spent.values()),
            squares=sum(amount**2 for amount in spent.values()),
        )

    def before_after(self, message: Message | None) -> tuple[Sums, Sums]:
        """Return the window before the anchor and the one after it, of everybody whose window is over."""
        anchors = {user: anchor for user, (_, anchor) in self.units(message).items() if self.is_over(anchor)}
        return self.sums(anchors, before=True), self.sums(anchors)

    def braze_control(self, message: Message) -> Compared | None:
        """Return the groups that Braze itself made for a campaign or a Canvas; None when it kept nobody out.

        None also when it is not known whom the campaign reached: who only clicked cannot stand for them.
        """
        firsts: list[tuple[int, bool, User]] = []
        if message[0] == "campaign":
            if self.figures(self.of(message))["reached"] is None:
                return None
            controls = self.about_messages(CONTROLS)
            firsts += [(t, True, user) for t, user in self._first(controls, message)]
            firsts += [(t, False, user) for t, user in self._first(self.known_reaches(message), message)]
        else:
            firsts += self._firsts(self.about_messages(ENTRIES), message)
        return self._of_braze(message, firsts)

    def steps(self, message: Message) -> list[str]:
        """Return the experiment steps of a Canvas."""
        found = self.about_messages(PATHS)["EXPERIMENT_STEP_API_ID"] if message[0] == "canvas" else []
        return sorted({step for step in found if step})

    def control_path(self, message: Message, step: str) -> Compared | None:
        """Return the groups that an experiment step made; None when nobody went its control path."""
        paths = self.about_messages(PATHS)
        own = _where(paths, [one == step for one in paths["EXPERIMENT_STEP_API_ID"]])
        return self._of_braze(message, self._firsts(own, message))

    def _firsts(self, rows: pd.DataFrame, message: Message) -> list[tuple[int, bool, User]]:
        firsts: list[tuple[int, bool, User]] = []
        for control in (True, False):
            own = _where(rows, [(said is True) == control for said in rows["IN_CONTROL_GROUP"]])
            firsts += [(t, control, user) for t, user in self._first(own, message)]
        return firsts

    def _of_braze(self, message: Message, firsts: Iterable[tuple[int, bool, User]]) -> Compared | None:
        groups: dict[User, tuple[bool, float]] = {}
        # Of two rows of one second the one that keeps the user out counts.
        for moment, control, user in sorted(firsts, key=lambda one: (one[0], not one[1])):
            groups.setdefault(user, (control, moment))
        if not any(control for control, _ in groups.values()):
            return None
        return self._compared(message, groups)

    def keeps_out(self, message: Message) -> bool:
        """Whether Braze kept anybody out of a message in the period."""
        if message[0] == "campaign":
            return bool(self._first(self.about_messages(CONTROLS), message))
        paths = self.about_messages(PATHS)
        named = _where(paths, [bool(step) for step in paths["EXPERIMENT_STEP_API_ID"]])
        return any(
            control
            for rows in (self.about_messages(ENTRIES), named)
            for _, control, _ in self._firsts(rows, message)
        )

    def _first(self, rows: pd.DataFrame, message: Message) -> list[tuple[int, User]]:
        """Return each user's first row of the period about a message."""
        own = self.of(message, self.in_period(rows, "DAY"))
        return [(int(t), user) for user, t in own.groupby("USER")["T"].min().items()]


class _LongBefore(Oracle):
    """What reached the cohort before the measured days, by the names that messages of those days have."""

    def measured_days(self, rows: pd.DataFrame) -> pd.DataFrame:
        first = self.question.since
        assert first is not None
        around = timedelta(days=-(-self.window // _DAY))
        zone = ZoneInfo(self.question.timezone)
        # Nobody is in the cohort before the first stay begins, whoever is named by then.
        came = min((stay.start for stay in self.stays if not stay.held), default=0)
        days = [datetime.fromtimestamp(int(moment), zone).date() for moment in rows["TIME"]]
        return _where(
            rows,
            [
                first - timedelta(days=365) <= day < first - around and moment >= came
                for day, moment in zip(days, rows["TIME"], strict=True)
            ],
        )

    @property
    def scanned(self) -> list[str]:
        tables = []
        for channel in self.channels:
            known = [one for one in ("reached", *_REACTIONS) if (one, channel) in self.possible]
            [needs] = [
                one.needs for one in FIGURES if (one.name, one.scope) == ((known or [""])[0], channel)
            ] or [()]
            tables += [need.table for need in needs]
        return tables


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _objects(rows: pd.DataFrame, values: Sequence[Any]) -> pd.Series:
    """Return a column of whatever it is, also when there is nothing in it."""
    return pd.Series(values, index=rows.index, dtype=object)


def _where(rows: pd.DataFrame, holds: Sequence[bool]) -> pd.DataFrame:
    """Return the rows for which it holds; an empty list by itself would choose columns."""
    return rows[pd.Series(holds, index=rows.index, dtype=bool)]


def _about(rows: pd.DataFrame, message: Message) -> pd.DataFrame:
    """Return the rows that are about a message."""
    return rows[(rows["KIND"] == message[0]) & (rows["MESSAGE"] == message[1])]


def _message(row: Row) -> tuple[str, str, str]:
    """Return a row's message: its kind, id and variation; three empty texts when it has none."""
    for kind, message, variation in (
        ("campaign", "CAMPAIGN_API_ID", "MESSAGE_VARIATION_API_ID"),
        ("canvas", "CANVAS_API_ID", "CANVAS_VARIATION_API_ID"),
    ):
        if row.get(message):
            return kind, row[message], row.get(variation) or ""
    return "", "", ""


def _push(row: Row) -> tuple[Any, ...]:
    """Return what a push and its bounce have in common."""
    return tuple(row[column] for column in ("USER", "KIND", "MESSAGE", "DISPATCH_ID", "DEVICE_ID"))
