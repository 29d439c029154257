"""A cohort's life as a state machine, and the oracle that knows what has to come of it.

The oracle reads what came over the wire and computes, with nothing of the package's, which answer every user had; the
ledger, the local Braze and the source have to agree with it after every step.

Arithmetic of a result, of an import that came to its end::

    members    = unchanged + held_out + set_aside + unmatched + entrants
    unmatched  = whom Braze does not know, of those who were to enter or to be held out; 0 where nobody looks
    entrants   = added + those of them that were rejected or have no certain answer
    data points = leavers + entrants + refreshed ones, each once, and again whoever Braze did not answer

Refreshed are, apart from a full resync, members in doubt, and members whose profile somebody who leaves under another
identifier may mean. As long as nothing was rejected or without an answer there are none of these, and then::

    data points = leavers + entrants
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from airflow_provider_kubit_braze.braze.engine import Patience
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.run import ImportOptions, RunIdentity
from airflow_provider_kubit_braze.importer import run_import
from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CLIENT_SECRET, DEFAULT_PARTNER_API_KEY
from airflow_provider_kubit_braze.sandbox.braze_share import fill_profile_share
from airflow_provider_kubit_braze.sandbox.process import SandboxError
from airflow_provider_kubit_braze.warehouse.state import ensure_tables
from tests.importer.boundaries import Boundary, Crash, Steps

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from airflow_provider_kubit_braze.core.report import ImportResult
    from airflow_provider_kubit_braze.importer import ImportEnd

KEY = "a-key-nobody-may-ever-see-4711"
SENT: Final = ("leave", "enter", "refresh")
QUIET: Final = ("hold", "drop")
PATIENCE = Patience(tries=3, first_wait=0.001, longest_wait=0.002, windows=3)
LABEL = "crm"

#: place, kind of identifier, user
Who = tuple[str, str, str]
Row = tuple[str | None, str | None, str | None]

#: Case twins, an accent composed and decomposed, other scripts, what breaks out of SQL and JSON, the longest one.
IDS: Final = [
    *("Ann", "ann", "\u00e9", "e\u0301", "😀", "עברית", "it's; --\"%s\\", " lead", "NULL", "007", "x" * 987),
    *("nobody", "never heard of"),
]
#: Braze has never heard of the last two.
KNOWN: Final = len(IDS) - 2
JUNK: Final[list[Row]] = [
    (None, None, None),
    ("", "junk@example.com", "junk"),
    ("   ", None, None),
    ("\t\r\n", None, None),
    ("x" * 988, None, None),
    (None, " ", "\n"),
]
APP_GROUP: Final = "group-1"
SHAPES: Final = {
    "id": (1, 0, 0),
    "mail": (0, 1, 0),
    "alias": (0, 0, 1),
    "id+mail": (1, 1, 0),
    "all": (1, 1, 1),
}
COLUMNS: Final = ("ID", "MAIL", "ALIAS")
KINDS: Final = {"ID": "external_id", "MAIL": "email", "ALIAS": f"user_alias:{LABEL}"}


@dataclass(frozen=True)
class Delivery:
    """Where and by what the users are named."""

    place: str
    chain: tuple[str, ...]

    @property
    def in_share(self) -> bool:
        """Whether Braze's data share can say who is known, without a request."""
        return self.place.startswith("attribute:") and "ALIAS" not in self.chain

    @property
    def fields(self) -> dict[str, Any]:
        kind, name = self.place.split(":", 1)
        braze = (
            {"deliver_as": "partner_cohort"}
            if kind == "partner_cohort"
            else {"deliver_as": "attribute", "attribute": name}
        )
        chain = {
            KINDS[column].split(":")[0]: {"label": LABEL, "name": column} if column == "ALIAS" else column
            for column in self.chain
        }
        return {"braze": braze, "identifiers": chain}


DELIVERIES: Final = [
    Delivery("attribute:kubit_cohort_vips", ("ID", "MAIL", "ALIAS")),
    Delivery("attribute:kubit_cohort_vips", ("MAIL", "ID")),
    Delivery("attribute:kubit_cohort_vips", ("ID",)),
    Delivery("attribute:renamed", ("ID", "MAIL", "ALIAS")),
    Delivery("partner_cohort:kubit", ("ID", "ALIAS")),
    Delivery("partner_cohort:kubit", ("ALIAS", "ID")),
]


def row_of(person: int, shape: str) -> Row:
    values = (IDS[person], f"p{person}@example.com", f"Alias {person}%'")
    row = [value if there else None for value, there in zip(values, SHAPES[shape], strict=True)]
    return row[0], row[1], row[2]


def profile_of(person: int) -> dict[str, Any]:
    name, mail, alias = row_of(person, "all")
    return {
        "external_id": name,
        "email": mail,
        "user_aliases": [{"alias_label": LABEL, "alias_name": alias}],
    }


#: Whose profile a user's identifier means.
PERSON: Final = {
    (KINDS[column], value): person
    for person in range(len(IDS))
    for column, value in zip(COLUMNS, row_of(person, "all"), strict=True)
}


def is_stranger(who: Who) -> bool:
    return PERSON.get(who[1:], KNOWN) >= KNOWN


def is_held_out(kind: str, user: str, percent: int) -> bool:
    digits = hashlib.md5(f"vips:{kind}:{user}".encode(), usedforsecurity=False).hexdigest()[:8]
    return int(digits, 16) < percent * 2**32 // 100


# -- what comes over the wire -------------------------------------------------------------------------------------

#: Answers to one user's object in one request.
ACCEPTED, REJECTED, NOT_TAKEN, MAYBE = "accepted", "rejected", "not taken", "maybe"


@dataclass(frozen=True)
class Attempt:
    """One user in one request: what it was to become, and how that was answered."""

    who: Who
    inside: bool
    answer: str


@dataclass
class Book:
    """The faults in force, counted as the local Braze counts them."""

    rules: Sequence[Mapping[str, Any]]
    seen: Counter[int] = field(default_factory=Counter)
    fired: Counter[int] = field(default_factory=Counter)

    def next(self, path: str) -> Mapping[str, Any] | None:
        for number, rule_ in enumerate(self.rules):
            if rule_["kind"] == "reject_ids" or not fnmatchcase(path, rule_["endpoint"]):
                continue
            if rule_["times"] is not None and self.fired[number] >= rule_["times"]:
                continue
            self.seen[number] += 1
            if self.seen[number] > rule_.get("after", 0):
                self.fired[number] += 1
                return rule_
        return None

    @property
    def refused(self) -> set[str]:
        return {name for rule_ in self.rules if rule_["kind"] == "reject_ids" for name in rule_["ids"]}


def read_request(path: str, body: Mapping[str, Any]) -> list[tuple[Who, bool]]:
    """Return who is in a request, and whether they are to be in the cohort."""
    found: list[tuple[Who, bool]] = []
    if path.startswith("/partners/"):
        place = f"partner_cohort:{path.split('/')[2]}"
        for change in body["cohort_changes"]:
            inside = not change.get("should_remove", False)
            found += [((place, "external_id", user), inside) for user in change.get("user_ids", ())]
            for alias in change.get("aliases", ()):
                kind = f"user_alias:{alias['alias_label']}"
                found.append(((place, kind, alias["alias_name"]), inside))
        return found
    for item in body["attributes"]:
        rest = {name: value for name, value in item.items() if name != "_update_existing_only"}
        assert item["_update_existing_only"] is True
        if "user_alias" in rest:
            alias = rest.pop("user_alias")
            kind, user = f"user_alias:{alias['alias_label']}", alias["alias_name"]
        else:
            kind = "external_id" if "external_id" in rest else "email"
            user = rest.pop(kind)
        ((attribute, value),) = rest.items()
        found.append(((f"attribute:{attribute}", kind, user), value is True))
    return found


def read_attempts(requests: Iterable[Any], book: Book) -> list[Attempt]:
    """Return every user of every request, with the answer that a careful reader takes from it."""
    found: list[Attempt] = []
    for request in requests:
        fault = book.next(request.path)
        if not fnmatchcase(request.path, "*users*"):
            continue
        kind = "" if fault is None else fault["kind"]
        refused = book.refused if request.path.startswith("/users/") else set()
        for who, inside in read_request(request.path, request.body):
            if kind == "status":
                assert fault is not None
                certain = fault["status"] in (401, 423, 429)
                answer = NOT_TAKEN if certain else MAYBE
            elif kind in ("drop_before", "drop_after", "malformed", "non_success_message"):
                answer = MAYBE
            elif who[2] in refused:
                answer = REJECTED
            elif kind in ("error_without_index", "error_index_out_of_range"):
                answer = MAYBE
            else:
                assert kind == ""
                answer = ACCEPTED
            found.append(Attempt(who, inside, answer))
    return found


# -- what has to come of it ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """The cohort as it is to be: members to be marked with the row that names them, and those held out."""

    inside: dict[Who, tuple[str | None, ...]]
    held: frozenset[Who]
    kinds: tuple[str, ...] = ()
    rows: int = 0
    valid: int = 0

    def without(self, strangers: Container[Who]) -> Wanted:
        """Return it without those whom Braze does not know."""
        inside = {who: row for who, row in self.inside.items() if who not in strangers}
        return replace(self, inside=inside, held=frozenset(who for who in self.held if who not in strangers))


@dataclass(frozen=True)
class Times:
    """When things came to be as the ledger has them; only Snowflake's clock knows that.

    :param entered: when a stay began.
    :param overdue: of those whose change got no answer, or whose leave was refused, when the first such import began.
    :param doubted: when a change last got no answer.
    :param refused: who was in when Braze refused a change of theirs, and has heard of none since.
    """

    entered: dict[Who, datetime] = field(default_factory=dict)
    overdue: dict[Who, datetime] = field(default_factory=dict)
    doubted: dict[Who, datetime] = field(default_factory=dict)
    refused: frozenset[Who] = frozenset()


@dataclass(frozen=True)
class Belief:
    """What the ledger has to say."""

    inside: frozenset[Who] = frozenset()
    held: frozenset[Who] = frozenset()
    doubts: frozenset[Who] = frozenset()
    times: Times = field(default_factory=Times, compare=False)

    def plan(self, wanted: Wanted, *, resting: set[Who], resync: bool) -> dict[Who, str]:
        """Return what is to be done about whom."""
        plan: dict[Who, str] = {}
        for who in {*wanted.inside, *wanted.held, *self.inside, *self.held, *self.doubts}:
            if who in wanted.inside:
                if who not in self.inside:
                    plan[who] = "rest" if who in resting and not resync else "enter"
                elif resync or who in self.doubts:
                    plan[who] = "refresh"
            elif who in self.inside or who in self.doubts:
                plan[who] = "leave"
            elif (who in wanted.held) != (who in self.held):
                plan[who] = "hold" if who in wanted.held else "drop"
        return {**dict.fromkeys(self.shaken(wanted, plan, resting), "refresh"), **plan}

    def matched(self, plan: Mapping[Who, str]) -> dict[Who, str]:
        """Return what is left of a plan when those whom Braze does not know are neither sent nor held out."""
        strangers = strangers_of(plan)
        # A stranger whom a smaller holdout lets in is held out no longer.
        dropped = {who for who in strangers & self.held if plan[who] == "enter"}
        return {
            who: "drop" if who in dropped else action
            for who, action in plan.items()
            if who in dropped or who not in strangers
        }

    def shaken(self, wanted: Wanted, plan: Mapping[Who, str], resting: set[Who]) -> set[Who]:
        """Return who stays while somebody leaves who may be the same person under another identifier."""
        # An undo has no chain, and is for whoever was in.
        if len(wanted.kinds) == 1:
            return set()
        late: dict[tuple[str, str], datetime] = {}
        for who in (who for who, action in plan.items() if action == "leave" and who in self.times.overdue):
            since = self.times.overdue[who]
            late[who[:2]] = min(since, late.get(who[:2], since))
        found: set[Who] = set()
        for who in wanted.inside.keys() & self.inside:
            place, kind, _ = who
            others = zip(wanted.kinds, wanted.inside[who], strict=True)
            if (
                any(
                    k != kind and value is not None and plan.get((place, k, value)) == "leave"
                    for k, value in others
                )
                or any(
                    p == place and k != kind and self.times.entered[who] >= since
                    for (p, k), since in late.items()
                )
                or (who in self.times.refused and who not in resting)
            ):
                found.add(who)
        return found

    def after(
        self, plan: Mapping[Who, str], wanted_held: Iterable[Who], answers: Mapping[Who, str]
    ) -> Belief:
        """Return the ledger after an import that has come to its end."""
        inside, held, doubts = set(self.inside), set(self.held), set(self.doubts)
        for who, action in plan.items():
            answer = answers.get(who) if action in ("leave", "enter", "refresh") else ACCEPTED
            if action == "rest" or answer == REJECTED:
                continue
            if answer != ACCEPTED:
                doubts.add(who)
                continue
            doubts.discard(who)
            inside.discard(who)
            held.discard(who)
            if action in ("enter", "refresh"):
                inside.add(who)
            elif who in wanted_held:
                held.add(who)
        return Belief(frozenset(inside), frozenset(held), frozenset(doubts))


def strangers_of(plan: Mapping[Who, str]) -> set[Who]:
    """Return who would be looked up and not found."""
    return {who for who, action in plan.items() if action in ("enter", "hold") and is_stranger(who)}


@dataclass
class Open:
    """An import that did not come to its end.

    :param strangers: who was looked up and not found; ``wanted`` is without them.
    :param sent: what each try had answered, the last one counts.
    :param foggy: a try died, so that what of it was written down is its secret.
    """

    run_id: str
    tries: int
    undo: bool
    state: str
    plan: dict[Who, str]
    wanted: Wanted
    before: Belief
    sent: dict[Who, str]
    points: int | None
    foggy: bool
    resync: bool
    strangers: frozenset[Who] = frozenset()


@dataclass
class Story:
    """One try: what it is about to do, and what was heard of it.

    :param plan: what has to be done, or None when only the ledger can tell.
    :param before: the ledger when the plan was made.
    :param earlier: how earlier tries of the plan were answered.
    :param points: data points so far; None when a try died, and took its count along.
    :param continues: the import that this is another try of.
    :param resync: whether everybody is to be sent.
    :param clean: whether all of it went over the wire once, and was accepted at once.
    :param several: whether users are named by more than one kind of identifier.
    :param allowed: what may be done about everybody when ``plan`` is None.
    :param matched: whether those who enter are looked up.
    :param strangers: who was looked up and not found; ``wanted`` is without them.
    """

    run_id: str
    tries: int
    undo: bool
    plan: dict[Who, str] | None
    wanted: Wanted
    before: Belief
    earlier: dict[Who, str]
    points: int | None = 0
    continues: Open | None = None
    several: bool = False
    resync: bool = False
    clean: bool = False
    allowed: Mapping[Who, set[str | None]] = field(default_factory=dict)
    matched: bool = False
    strangers: frozenset[Who] = frozenset()
    now: dict[Who, str] = field(default_factory=dict)

    def hear(self, attempts: Sequence[Attempt], *, exactly_once: bool) -> None:
        """Take in what came over the wire."""
        rank = [NOT_TAKEN, MAYBE, REJECTED, ACCEPTED]
        for attempt in attempts:
            who, answer = attempt.who, attempt.answer
            assert self.now.get(who) not in (ACCEPTED, REJECTED), (who, "was sent once more")
            assert not (exactly_once and who in self.now), (who, "was sent twice")
            if self.continues is not None and not self.continues.foggy:
                assert self.earlier.get(who) not in (ACCEPTED, REJECTED), (who, "was sent by another try")
            self.now[who] = max(self.now.get(who, NOT_TAKEN), answer, key=rank.index)
            if self.plan is not None:
                assert self.plan.get(who) in SENT, (who, "was not to be sent")
                assert attempt.inside == (self.plan[who] != "leave")
            if self.points is not None:
                self.points += answer in (ACCEPTED, MAYBE)

    @property
    def postponed(self) -> set[Who]:
        """Return leavers whom another try may not send: they got no answer, and somebody else entered since."""
        if self.continues is None or not self.several:
            return set()
        told = {who for who, answer in self.earlier.items() if answer in (ACCEPTED, REJECTED)}
        plan = self.continues.plan
        if all(plan[who] == "leave" for who in told):
            return set()
        return {who for who, action in plan.items() if action == "leave"} - told

    @property
    def answers(self) -> dict[Who, str]:
        """What is known by now; the last try counts."""
        return {**self.earlier, **self.now}

    def check_plan(self, plan: Mapping[Who, str]) -> None:
        """See that the frozen plan is one that may be made."""
        if self.plan is not None:
            assert plan == {who: action for who, action in self.plan.items() if action != "rest"}
            return
        for who in {*plan, *self.allowed}:
            may = {None if action == "rest" else action for action in self.allowed.get(who, {None})}
            assert plan.get(who) in may, who


@dataclass(frozen=True)
class Trouble:
    """What befalls an import."""

    faults: tuple[dict[str, Any], ...] = ()
    crash: Boundary | None = None

    def __repr__(self) -> str:
        said = [", ".join(f"{k}={v!r}" for k, v in fault.items()) for fault in self.faults]
        return "Trouble(" + " | ".join([*said, *([str(self.crash)] if self.crash else [])]) + ")"


ANY, TRACK = "*users*", "/users/track*"
_after = st.integers(0, 3)


def _fault(
    kind: str, endpoint: str = ANY, times: int | None = 1, **more: Any
) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda after: {"kind": kind, "endpoint": endpoint, "times": times, "after": after, **more}, _after
    )


_SOON: Final[dict[str, Any]] = {"headers": {"Retry-After": "0.01"}}
#: A retry helps against these, and two of them are not too many for one request.
_passing = st.lists(
    st.one_of(
        _fault("status", status=429, **_SOON),
        _fault("status", status=423),
        _fault("status", status=503),
        _fault("status", status=500, apply=True),
        _fault("malformed", status=502),
        _fault("drop_before"),
        _fault("drop_after"),
    ),
    min_size=1,
    max_size=2,
)
#: Final answers that leave it open what became of the request.
_unclear = st.one_of(
    _fault("malformed", TRACK, status=201),
    _fault("non_success_message", TRACK),
    _fault("non_success_message", TRACK, status=202, apply=True),
    _fault("error_without_index", TRACK),
    _fault("error_index_out_of_range", TRACK),
).map(lambda fault: [fault])
_lasting = st.one_of(
    _fault("status", times=None, status=503),
    _fault("status", times=None, status=401),
    _fault("status", times=None, status=429, **_SOON),
    _fault("drop_after", times=None),
    _fault("drop_before", times=None),
).map(lambda fault: [fault])
_names = st.sampled_from([name for _, name in PERSON])
_rejecting = st.lists(_names, min_size=1, max_size=3, unique=True).map(
    lambda names: [{"kind": "reject_ids", "endpoint": TRACK, "times": None, "ids": names}]
)
_when = st.sampled_from(["before", "after"])
_crashes = st.one_of(
    st.builds(Boundary, when=_when, sql=st.just(""), nth=st.integers(15, 55)),
    st.builds(Boundary, when=_when, nth=st.integers(1, 3)),
)
_befalls: Final[dict[str, st.SearchStrategy[Trouble]]] = {
    "nothing": st.just(Trouble()),
    "crash": _crashes.map(lambda crash: Trouble(crash=crash)),
    "passing": _passing.map(lambda faults: Trouble(tuple(faults))),
    "unclear": _unclear.map(lambda faults: Trouble(tuple(faults))),
    "lasting": _lasting.map(lambda faults: Trouble(tuple(faults))),
    "rejecting": _rejecting.map(lambda faults: Trouble(tuple(faults))),
    "both": st.builds(lambda some, more: Trouble((*some, *more)), _rejecting, _unclear),
}
# Not one_of, which would see through the above and crash too rarely.
TROUBLES: Final = st.sampled_from(["nothing", "nothing", "crash", "crash", *list(_befalls)[2:]]).flatmap(
    lambda name: _befalls[name]
)
rarely: Final = st.sampled_from([False, False, False, False, True])


class CohortMachine(RuleBasedStateMachine):
    """One cohort through days of changes, faults, crashes and changes of mind."""

    #: The test's world: a schema in the local Snowflake, and the local Braze.
    world: Any

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        ensure_tables(world.session, world.tables)
        for name in ("membership", "run", "change", "progress", "rejected", "unknown", "unmatched", "lease"):
            world.session.execute(f"DELETE FROM {getattr(world.tables, name)}")
        world.braze.reset()
        world.braze.configure(
            keys={KEY: ["users.track"]}, apply_delay=0, rate_headers="none", recorded_requests=100_000
        )
        world.braze.add_users(profile_of(person) for person in range(KNOWN))
        self.share = f"{world.schema}_SHARE"
        fill_profile_share(world.braze, world.session.connection, self.share, app_group_id=APP_GROUP)
        self.people: dict[int, tuple[str, int]] = {}
        self.junk: list[Row] = []
        self.delivery = DELIVERIES[0]
        self.percent = 0
        self.matching = True
        self.belief = Belief()
        # Whom Braze rejected, with the rows that named them then.
        self.resting: dict[Who, set[tuple[str | None, ...]]] = {}
        self.open: Open | None = None
        self.undo_to: Belief | None = None
        self.runs = count(1)
        self.read = 0
        # Changes planned and sent so far, and whether nothing ever went wrong.
        self.planned = 0
        self.quiet = True

    # -- what people do -------------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["goes on", "goes on", "a new day", "a new day", "undone"]),
        changes=st.dictionaries(
            st.integers(0, len(IDS) - 1),
            st.tuples(st.sampled_from(["id", *SHAPES, None, None]), st.sampled_from([1, 1, 1, 3])),
            min_size=3,
            max_size=9,
        ),
        junk=st.lists(st.sampled_from(JUNK), max_size=2),
        delivery=st.sampled_from([None, None, None, *DELIVERIES]),
        percent=st.sampled_from([None, None, None, 0, 20, 50, 90]),
        matching=st.sampled_from([None, None, True, True, False]),
        rehearsed=rarely,
        trouble=TROUBLES,
        objects=st.sampled_from([1, 1, 2, 75]),
        in_flight=st.sampled_from([1, 1, 4]),
        resync=rarely,
        guarded=rarely,
    )
    def day(
        self,
        what: str,
        changes: dict[int, tuple[str | None, int]],
        junk: list[Row],
        delivery: Delivery | None,
        percent: int | None,
        matching: bool | None,
        rehearsed: bool,
        resync: bool,
        guarded: bool,
        **how: Any,
    ) -> None:
        """An import that did not end goes on, or the last one is undone, or there is a new day's import.

        For that the cohort has changed, or the mind of who looks after it.
        """
        if self.open is not None and what == "goes on":
            self._import(retry=True, **how)
            return
        if self.open is None and self.undo_to is not None and what == "undone":
            self._import(undo=True, **how)
            return
        for person, (shape, copies) in changes.items():
            # Who comes as they are goes; so the simplest of lives has some change in it too.
            if self.people.pop(person, None) != (shape, copies) and shape is not None:
                self.people[person] = (shape, copies)
        self.junk = junk
        self.delivery = delivery or self.delivery
        self.percent = self.percent if percent is None else percent
        self.matching = self.matching if matching is None else matching
        if rehearsed:
            self._rehearse()
        self._import(resync=resync, guarded=guarded, **how)

    # -- how an import goes ---------------------------------------------------------------------------------------

    def wanted(self) -> Wanted:
        rows = [row_of(p, shape) for p, (shape, copies) in self.people.items() for _ in range(copies)]
        rows += self.junk
        inside: dict[Who, tuple[str | None, ...]] = {}
        held, valid = set(), 0
        for row in rows:
            values = [row[COLUMNS.index(column)] for column in self.delivery.chain]
            named = [(c, v) for c, v in zip(self.delivery.chain, values, strict=True) if v is not None]
            if not named or not named[0][1].strip(" \t\r\n") or len(named[0][1].encode()) > 987:
                continue
            valid += 1
            who = (self.delivery.place, KINDS[named[0][0]], named[0][1])
            if is_held_out(*who[1:], self.percent):
                held.add(who)
            else:
                inside[who] = tuple(values) if len(values) > 1 else ()
        kinds = tuple(KINDS[column] for column in self.delivery.chain)
        return Wanted(inside, frozenset(held), kinds, rows=len(rows), valid=valid)

    def _write_source(self) -> None:
        rows = [row_of(p, shape) for p, (shape, copies) in self.people.items() for _ in range(copies)]
        self.world.source(*rows, *self.junk, columns="ID VARCHAR, MAIL VARCHAR, ALIAS VARCHAR")

    @property
    def matched(self) -> bool:
        """Whether those who enter are looked up."""
        return self.matching and self.delivery.in_share

    def _fields(self) -> dict[str, Any]:
        fields = self.delivery.fields
        if not self.matched:
            return fields
        share = {"share": f"DEMO.{self.share}", "app_group_id": APP_GROUP}
        return {**fields, "match": "all", "braze": {**fields["braze"], **share}}

    def _run(
        self,
        run_id: str,
        try_number: int,
        options: ImportOptions,
        *,
        objects: int = 75,
        in_flight: int = 1,
        guards: Mapping[str, Any],
        crash: Boundary | None = None,
    ) -> ImportEnd | None:
        """Import; None is an import that died."""
        world = self.world
        self._write_source()
        steps = Steps(crash, _die)
        try:
            with steps.requesting():
                return run_import(
                    Cohort(
                        **{**world.fields, **self._fields(), "holdout": f"{self.percent}%"},
                        guards={"allow_empty": True, "max_rejected": None, **guards},
                    ),
                    settings=BrazeSettings(
                        base_url=world.sandbox.braze_url,
                        rest_key=KEY,
                        workspace="workspace",
                        client_secret=DEFAULT_CLIENT_SECRET,
                        partner_api_key=DEFAULT_PARTNER_API_KEY,
                        max_objects_per_request=objects,
                        max_in_flight=in_flight,
                    ),
                    connect=steps.connecting(world.sandbox.connect),
                    tables=world.tables,
                    identity=RunIdentity(dag_id="kubit_braze__vips", run_id=run_id, try_number=try_number),
                    options=options,
                    patience=PATIENCE,
                )
        except Crash:
            steps.bury()
            return None
        finally:
            world.braze.settle()

    def _import(
        self,
        *,
        trouble: Trouble,
        objects: int,
        in_flight: int,
        retry: bool = False,
        undo: bool = False,
        resync: bool = False,
        guarded: bool = False,
    ) -> None:
        """Import, and hold what came of it against the oracle."""
        world, left = self.world, self.open
        tables = world.tables
        if left is not None and retry:
            run_id, tries, undo = left.run_id, left.tries + 1, left.undo
        else:
            run_id, tries = f"run {next(self.runs)}", 1
            # Time passes: the lease of an owner that died expires.
            world.session.execute(f"UPDATE {tables.lease} SET EXPIRES_AT = DATEADD(second, -1, SYSDATE())")
        story = self._story(left if retry else None, run_id, tries, undo=undo, resync=resync)
        for fault in trouble.faults:
            world.braze.fault(**fault)
        end = self._run(
            run_id,
            tries,
            ImportOptions(full_resync=resync, undo=undo),
            objects=objects,
            in_flight=in_flight,
            guards={"max_removed": 0 if guarded else None},
            crash=trouble.crash,
        )
        world.braze.clear_faults()
        attempts = self._attempts(trouble.faults)
        story.hear(attempts, exactly_once=not trouble.faults and end is not None)
        story.clean = left is None and not trouble.faults and end is not None
        self.quiet = self.quiet and not trouble.faults and end is not None
        if end is None:
            self._died(story, attempts)
        elif end.result.outcome == "stopped":
            assert guarded
            assert not undo
            assert not attempts
            self._stopped(story)
        elif end.error is not None:
            assert trouble.faults, end.error
            self._paused(story, in_flight)
        else:
            self._closed(story, end.result, guarded=guarded)
        self._check_truth()

    def _story(self, left: Open | None, run_id: str, tries: int, *, undo: bool, resync: bool) -> Story:
        """Return what the import is about to do, as far as that can be known."""
        if left is not None:
            return Story(
                run_id,
                tries,
                undo,
                left.plan,
                left.wanted,
                left.before,
                dict(left.sent),
                points=left.points,
                continues=left,
                several=len(self.delivery.chain) > 1,
                resync=left.resync,
                matched=self.matched and not undo,
                strangers=left.strangers,
            )
        if undo:
            assert self.undo_to is not None
            size = len(self.undo_to.inside) + len(self.undo_to.held)
            wanted = Wanted(dict.fromkeys(self.undo_to.inside, ()), self.undo_to.held, rows=size, valid=size)
        else:
            wanted = self.wanted()
        before, gone = self.belief, self.open
        if gone is not None and not gone.foggy and gone.state == "paused":
            doubts = {who for who, answer in gone.sent.items() if answer == MAYBE}
            before = self._in_doubt(before, doubts, gone.run_id)
        resting = self._resting(wanted, before)
        matched = self.matched and not undo
        if gone is not None and gone.foggy:
            allowed = self._foggy_actions(gone, wanted, resting, resync=resync, matched=matched)
            return Story(
                run_id, tries, undo, None, wanted, before, {}, resync=resync, allowed=allowed, matched=matched
            )
        plan = before.plan(wanted, resting=resting, resync=resync)
        if not matched:
            return Story(run_id, tries, undo, plan, wanted, before, {}, resync=resync)
        strangers = frozenset(strangers_of(plan))
        return Story(
            run_id,
            tries,
            undo,
            before.matched(plan),
            wanted.without(strangers),
            before,
            {},
            resync=resync,
            matched=True,
            strangers=strangers,
        )

    def _in_doubt(self, before: Belief, doubts: Iterable[Who], run_id: str) -> Belief:
        """Return the ledger after an import that did not end was closed with ``doubts``."""
        ((began,),) = self.world.rows("run", "STARTED_AT", f"RUN_ID = '{run_id}'")
        times, found = before.times, set(doubts)
        return replace(
            before,
            doubts=before.doubts | found,
            times=replace(
                times,
                overdue={**dict.fromkeys(found, began), **times.overdue},
                doubted={**times.doubted, **dict.fromkeys(found, datetime.max)},
            ),
        )

    def _resting(self, wanted: Wanted, before: Belief) -> set[Who]:
        """Return whom Braze refused when the same row named them, and who is not in doubt since."""
        found = {who for who, row in wanted.inside.items() if row in self.resting.get(who, ())}
        if not found & before.doubts:
            return found
        refused = {
            ((place, kind, user), row_hash): at
            for place, kind, user, row_hash, at in self.world.session.rows(
                f"SELECT PLACE, ID_KIND, USER_ID, ROW_HASH, MAX(REJECTED_AT) FROM {self.world.tables.rejected} "
                "WHERE CLEARED_AT IS NULL AND ACTION <> 'leave' GROUP BY PLACE, ID_KIND, USER_ID, ROW_HASH"
            )
        }
        return {
            who
            for who in found
            if before.times.doubted.get(who, datetime.min) <= refused[who, hash_of(wanted.inside[who])]
        }

    def _foggy_actions(
        self, gone: Open, wanted: Wanted, resting: set[Who], *, resync: bool, matched: bool
    ) -> dict[Who, set[str | None]]:
        """Return what may be done about everybody after an import died, whatever of it was written down."""
        sent = {who for who, action in gone.plan.items() if action in SENT}
        told = {who: answer for who, answer in gone.sent.items() if answer in (ACCEPTED, REJECTED)}
        refused = {
            who
            for who, answer in told.items()
            if answer == REJECTED
            and gone.wanted.inside.get(who) == wanted.inside.get(who, ("somebody else",))
        }

        # Whom it may have left in doubt since it refused them does not rest.
        rests = [resting, resting | refused, resting - sent]

        def plans(belief: Belief) -> list[dict[Who, str]]:
            found = [belief.plan(wanted, resting=some, resync=resync) for some in rests]
            return [belief.matched(plan) for plan in found] if matched else found

        written = plans(gone.before.after({who: gone.plan[who] for who in told}, gone.wanted.held, told))
        doubted = plans(self._in_doubt(gone.before, sent, gone.run_id))
        untouched = plans(gone.before)
        allowed: dict[Who, set[str | None]] = {}
        for who in {who for plan in (*written, *doubted, *untouched) for who in plan} | sent:
            may = untouched if who not in sent else doubted
            if who in told:
                may = may + written
            elif gone.state == "paused":
                # It stopped in good order, so what it had not sent is no doubt.
                may = may + untouched
            allowed[who] = {plan.get(who) for plan in may}
        # Who leaves, and since when they ought to have left, is not known, so any of the others may be sent once more.
        if len(wanted.kinds) > 1 and any("leave" in actions for actions in allowed.values()):
            for who in wanted.inside:
                if None in allowed.setdefault(who, {None}):
                    allowed[who].add("refresh")
        return allowed

    # -- how it may end -------------------------------------------------------------------------------------------

    def _closed(self, story: Story, result: ImportResult, *, guarded: bool) -> None:
        state, plan = self._frozen(story.run_id)
        assert state == "closed"
        story.check_plan(plan)
        assert not (guarded and story.continues is None and "leave" in plan.values())
        to_send = {who for who, action in plan.items() if action in SENT}
        assert set(story.now) <= to_send
        if story.continues is not None and not story.continues.foggy:
            assert not story.postponed & set(story.now), "somebody left after others had entered"
        for who in to_send - set(story.now) - story.postponed:
            assert story.earlier.get(who) in (ACCEPTED, REJECTED), (who, "was not sent")
        answers = {who: story.answers.get(who, MAYBE) for who in to_send}
        after = self._ledger()
        if story.plan is None and story.matched:
            # Which of the strangers were still to enter only the ledger could tell.
            everybody = {*story.wanted.inside, *story.wanted.held}
            strangers = {who for who in everybody - after.inside - after.held if is_stranger(who)}
            story.wanted = story.wanted.without(strangers)
        if story.plan is not None:
            assert after == story.before.after(plan, story.wanted.held, answers)
            self._check_figures(story, result, plan, answers, after)
        assert not {who for who, a in answers.items() if a not in (ACCEPTED, REJECTED)} - after.doubts
        rests = {who for who in self._resting(story.wanted, after) if who not in plan}
        for who in {*after.inside, *after.held, *story.wanted.inside, *story.wanted.held, *plan}:
            if answers.get(who, ACCEPTED) == ACCEPTED and who not in rests:
                assert (who in after.inside, who in after.held, who in after.doubts) == (
                    who in story.wanted.inside,
                    who in story.wanted.held,
                    False,
                ), who
        for who, answer in answers.items():
            if answer == REJECTED and plan[who] != "leave":
                self.resting.setdefault(who, set()).add(story.wanted.inside[who])
            elif answer == ACCEPTED:
                self.resting.pop(who, None)
        changed = any(
            action in QUIET or (answers[who], action) not in ((REJECTED, action), (ACCEPTED, "refresh"))
            for who, action in plan.items()
        )
        if story.plan is None:
            self.undo_to = None
        elif changed:
            self.undo_to = story.before
        elif story.continues is None and self.open is not None:
            self.undo_to = None
        self.planned += len(to_send)
        self.belief, self.open = after, None

    def _check_figures(
        self,
        story: Story,
        result: ImportResult,
        plan: Mapping[Who, str],
        answers: Mapping[Who, str],
        after: Belief,
    ) -> None:
        wanted = story.wanted
        members = len(wanted.inside) + len(wanted.held) + len(story.strangers)
        actions, answered = Counter(plan.values()), Counter(answers.values())
        accepted = Counter(plan[who] for who, answer in answers.items() if answer == ACCEPTED)
        rests = 0 if story.plan is None else sum(action == "rest" for action in story.plan.values())
        rejected, unknown = answered[REJECTED], len(answers) - answered[ACCEPTED] - answered[REJECTED]
        expected = {
            "outcome": "unchanged" if not plan else "partial" if rejected or unknown else "success",
            "purpose": "undo" if story.undo else "import",
            "members": members,
            "users_imported": len(after.inside),
            "added": accepted["enter"],
            "removed": accepted["leave"],
            "unchanged": len(wanted.inside) - actions["enter"] - rests,
            "held_out": len(wanted.held),
            "duplicates": wanted.valid - members,
            "invalid": wanted.rows - wanted.valid,
            "rejected": rejected,
            "unknown": unknown,
            "set_aside": rests,
            "unmatched": len(story.strangers),
        }
        if story.points is not None and all(who[0].startswith("attribute:") for who in answers):
            expected["data_points"] = story.points
        assert {name: getattr(result, name) for name in expected} == expected
        if not story.before.times.overdue and not story.resync:
            # Nobody has been in doubt, and Braze has let everybody go.
            assert not actions["refresh"]
            if story.clean:
                assert result.data_points == actions["leave"] + actions["enter"]

    def _paused(self, story: Story, in_flight: int) -> None:
        """Braze did not let the import go on; what it accepted is in the ledger, what is uncertain is not."""
        state, plan = self._frozen(story.run_id)
        assert state == "paused"
        story.check_plan(plan)
        if story.plan is None or in_flight > 1 or (story.continues is not None and story.continues.foggy):
            # Requests under way at the end were cancelled: what came of them the import could not know.
            story.points = None
            self._adopt(story)
            return
        told = {who: a for who, a in story.answers.items() if a in (ACCEPTED, REJECTED)}
        after = self._ledger()
        assert after == story.before.after({who: plan[who] for who in told}, story.wanted.held, told)
        self.belief = after
        self.open = Open(
            story.run_id,
            story.tries,
            story.undo,
            "paused",
            dict(story.plan),
            story.wanted,
            story.before,
            story.answers,
            points=story.points,
            foggy=False,
            resync=story.resync,
            strangers=story.strangers,
        )
        self._read_resting(story.wanted)

    def _stopped(self, story: Story) -> None:
        if story.plan is not None:
            assert "leave" in story.plan.values()
            assert self._ledger() == story.before
        self._adopt(story)

    def _died(self, story: Story, attempts: Sequence[Attempt]) -> None:
        state, plan = self._frozen(story.run_id)
        if state is None:
            assert not attempts
        else:
            # It may have died before whom Braze does not know was taken out.
            story.check_plan(story.before.matched(plan) if story.matched and state == "planned" else plan)
        if state == "planned":
            assert not attempts
        if state == "closed" and story.plan is not None:
            assert self._ledger() == story.before.after(plan, story.wanted.held, story.answers)
        story.points = None
        self._adopt(story)

    def _adopt(self, story: Story) -> None:
        """Believe the ledger: only it knows how far the import had come. Whether it is right Braze tells."""
        world, left = self.world, self.open
        ledger = self._ledger()
        if (ledger, story.now) != (self.belief, {}) or left is not None:
            self.undo_to = None
        self.belief = ledger
        rows = world.rows("run", "RUN_ID, STATE", "STATE <> 'closed'")
        assert len(rows) <= 1
        self._read_resting(story.wanted, *([left.wanted] if left is not None else []))
        if not rows:
            self.open = None
            return
        ((run_id, state),) = rows
        if left is not None and run_id == left.run_id and story.continues is None:
            # The new import died before it could close the old one.
            assert not story.now
            return
        _, plan = self._frozen(run_id)
        if story.plan is None and story.matched and state == "planned":
            story.strangers = frozenset(strangers_of(plan))
            story.wanted = story.wanted.without(story.strangers)
            plan = ledger.matched(plan)
        planned = story.plan if story.plan is not None else plan
        before = story.before if story.plan is not None else ledger
        self.open = Open(
            run_id,
            story.tries,
            story.undo,
            state,
            dict(planned),
            story.wanted,
            before,
            story.answers,
            points=story.points,
            foggy=state != "planned",
            resync=story.resync,
            strangers=story.strangers,
        )

    def _read_resting(self, *wanted: Wanted) -> None:
        """See which rejections were written down; the rows they were about are known."""
        columns = "PLACE, ID_KIND, USER_ID, ROW_HASH"
        hashes: dict[Who, set[str | None]] = {}
        for *who, row_hash in self.world.rows(
            "rejected", columns, "CLEARED_AT IS NULL AND ACTION <> 'leave'"
        ):
            place, kind, user = who
            hashes.setdefault((place, kind, user), set()).add(row_hash)
        found: dict[Who, set[tuple[str | None, ...]]] = {}
        for who_, written in hashes.items():
            rows = self.resting.get(who_, set()) | {one.inside[who_] for one in wanted if who_ in one.inside}
            found[who_] = {row for row in rows if hash_of(row) in written}
        self.resting = found

    # -- rehearsals -----------------------------------------------------------------------------------------------

    def _rehearse(self) -> None:
        wanted, before = self.wanted(), self._ledger()
        plan = before.plan(wanted, resting=self._resting(wanted, before), resync=False)
        actions = Counter(plan.values())
        end = self._run(
            f"run {next(self.runs)}", 1, ImportOptions(dry_run=True), guards={"max_removed": None}
        )
        assert end is not None
        assert end.error is None
        assert not self._attempts(())
        result, members = end.result, len(wanted.inside) + len(wanted.held)
        assert (result.outcome, result.members, result.added, result.removed, result.data_points) == (
            "dry_run",
            members,
            actions["enter"],
            actions["leave"],
            actions["enter"] + actions["leave"] + actions["refresh"],
        )
        assert result.unchanged == len(wanted.inside) - actions["enter"] - actions["rest"]
        assert (self._ledger(), result.requests) == (before, 0)
        assert len(self.world.rows("run", "RUN_ID", "STATE <> 'closed'")) == (self.open is not None)

    # -- what there is --------------------------------------------------------------------------------------------

    def _ledger(self) -> Belief:
        tables, session = self.world.tables, self.world.session
        rows = self.world.rows(
            "membership", "PLACE, ID_KIND, USER_ID, HELD_OUT, ENTERED_AT", "LEFT_AT IS NULL"
        )
        assert len({row[:3] for row in rows}) == len(rows), "somebody has two stays"
        doubts = {
            (place, kind, user): (began, at)
            for place, kind, user, began, at in session.rows(
                f"SELECT u.PLACE, u.ID_KIND, u.USER_ID, MIN(r.STARTED_AT), MAX(u.RECORDED_AT) FROM {tables.unknown} u "
                f"INNER JOIN {tables.run} r ON r.IMPORT_ID = u.IMPORT_ID GROUP BY u.PLACE, u.ID_KIND, u.USER_ID"
            )
        }
        overdue = {who: began for who, (began, _) in doubts.items()}
        for place, kind, user, began in session.rows(
            f"SELECT x.PLACE, x.ID_KIND, x.USER_ID, MIN(r.STARTED_AT) FROM {tables.rejected} x "
            f"INNER JOIN {tables.run} r ON r.IMPORT_ID = x.IMPORT_ID "
            "WHERE x.ACTION = 'leave' AND x.CLEARED_AT IS NULL GROUP BY x.PLACE, x.ID_KIND, x.USER_ID"
        ):
            overdue[place, kind, user] = min(began, overdue.get((place, kind, user), began))
        return Belief(
            frozenset((place, kind, user) for place, kind, user, held, _ in rows if not held),
            frozenset((place, kind, user) for place, kind, user, held, _ in rows if held),
            frozenset(doubts),
            Times(
                entered={(place, kind, user): at for place, kind, user, _, at in rows},
                overdue=overdue,
                doubted={who: at for who, (_, at) in doubts.items()},
                refused=frozenset(
                    session.rows(
                        f"SELECT DISTINCT PLACE, ID_KIND, USER_ID FROM {tables.rejected} "
                        "WHERE ACTION <> 'enter' AND CLEARED_AT IS NULL"
                    )
                ),
            ),
        )

    def _frozen(self, run_id: str) -> tuple[str | None, dict[Who, str]]:
        """Return the state and the frozen plan of a run's import."""
        tables = self.world.tables
        runs = self.world.rows("run", "IMPORT_ID, STATE", f"RUN_ID = '{run_id}'")
        if not runs:
            return None, {}
        ((import_id, state),) = runs
        rows = self.world.session.rows(
            f"SELECT PLACE, ID_KIND, USER_ID, ACTION FROM {tables.change} WHERE IMPORT_ID = %s", (import_id,)
        )
        return state, {(place, kind, user): action for place, kind, user, action in rows}

    def _attempts(self, faults: Sequence[Mapping[str, Any]]) -> list[Attempt]:
        """Return what came over the wire since the last time."""
        requests = [one for one in self.world.braze.requests(10_000) if one.number > self.read]
        self.read = requests[-1].number if requests else self.read
        return read_attempts(requests, Book(faults))

    def _check_truth(self) -> None:
        """See that Braze holds what the ledger says, apart from those of whom it says that it does not know."""
        world, uncertain = self.world, set(self.belief.doubts)
        if self.open is not None and self.open.state != "planned":
            uncertain |= set(self.open.plan)
        profiles = {user["external_id"]: user.get("custom_attributes", {}) for user in world.braze.users()}
        assert set(profiles) == set(IDS[:KNOWN])
        try:
            partner = world.braze.members("vips")
        except SandboxError:
            partner = set()
        for place in {delivery.place for delivery in DELIVERIES}:
            for person in range(KNOWN):
                names = {(place, kind, user) for (kind, user), owner in PERSON.items() if owner == person}
                if names & uncertain:
                    continue
                attributes = profiles[IDS[person]]
                marked = (
                    IDS[person] in partner
                    if place.startswith("partner_cohort:")
                    else attributes.get(place.removeprefix("attribute:")) is True
                )
                assert marked == bool(names & self.belief.inside), (place, IDS[person])

    def teardown(self) -> None:
        """Without anything that went wrong, Braze counted every change once and nothing else."""
        counters = self.world.braze.counters()
        if self.quiet:
            assert counters.attribute_writes + counters.cohort_identifiers == self.planned


def hash_of(row: tuple[str | None, ...]) -> str | None:
    """Return what the package keeps of a row; only to know of which rows a dead import wrote down a rejection."""

    def digits(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    return digits("".join("-" if value is None else digits(value) for value in row)) if row else None


def _die() -> None:
    raise Crash
