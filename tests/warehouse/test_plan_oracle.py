"""The plan's SQL against the same difference in plain Python, over users that SQL likes to get wrong."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.place import Place
from airflow_provider_kubit_braze.warehouse.plan import freeze_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_kubit_braze.core.plan import Plan

WORKSPACE = "work % space"
HERE, BEFORE = "attribute:kubit_cohort_vips", "attribute:the 'old' %s; name\\"

#: place, kind of identifier, user
User = tuple[str, str, str]
Row = tuple[Any, ...]

LABEL = "50% o'ff \\ {x}"
KINDS: dict[str, str] = {
    "external_id": "external_id",
    "email": "email",
    "user_alias": f"user_alias:{LABEL}",
    "phone": "phone",
}

#: When the earlier imports began whose changes got no certain answer, or a refusal; and when stays began: long before,
#: with the first of them, between, with the second, and after both.
STARTED = {"i1": "2026-01-02 00:00:00", "i2": "2026-01-04 00:00:00"}
ENTERED = ["2026-01-01 00:00:00", *STARTED.values(), "2026-01-03 00:00:00", "2026-01-05 00:00:00"]
DOUBTED, REJECTED = "2026-01-06 00:00:00", "2026-01-07 00:00:00"

#: Twins that only a comparison byte for byte tells apart, and what tends to break out of a statement.
ODD = [
    *(
        "Ann",
        "ann",
        "ANN",
        "ann ",
        " ann",
        "ann\t",
        "\u00e9",
        "e\u0301",
        "\u00c9",
        "\u00df",
        "ss",
        "\ufb01",
        "fi",
    ),
    *(
        "\u0130",
        "i\u0307",
        "😀",
        "👩\u200d👩\u200d👧",
        "👩",
        "עברית",
        "العربية",
        "\u202eabc",
        "abc",
        "日本語",
        "a\u200bb",
        "ab",
    ),
    *(
        "a\u0300\u0301",
        "a\u0301\u0300",
        "it's",
        "it''s",
        'say "hi"',
        "a;b",
        "a; DROP TABLE x;--",
        "/* c */",
        "--",
    ),
    *(
        "100%",
        "%s",
        "%(a)s",
        "%%",
        "{user}",
        "{0}",
        "back\\slash",
        "back\\\\slash",
        "\\'",
        "\\n",
        "new\nline",
    ),
    *("a$", "?", ":1", "NULL", "null", "None", "007", "7", "7.0", "-0", "0", "1e3", "true", "TRUE"),
    *("x" * 987, "x" * 986, "é" * 493 + "x", "😀" * 246 + "abc"),
]
INVALID = ["", " ", "   ", "\t", "\r\n", " \t\r\n ", "x" * 988, "é" * 494, "😀" * 247, "y" * 5000]


@dataclass
class Case:
    """A cohort with its source and its past, and what the plan has to be.

    :param columns: kind, name and type of each column that identifies, in the order of the chain.
    :param stays: whether each stay is a held-out one.
    :param entered: when each stay began.
    :param doubts: users with the imports that left them in doubt.
    :param overdue: users with the imports in which Braze refused to let them leave.
    :param resting: users rejected lately, and not in doubt since, with the row that named them then.
    """

    seed: int
    random: Random
    columns: list[tuple[str, str, str]]
    share: int
    resync: bool
    rows: list[Row] = field(default_factory=list)
    stays: dict[User, bool] = field(default_factory=dict)
    entered: dict[User, str] = field(default_factory=dict)
    doubts: dict[User, list[str]] = field(default_factory=dict)
    overdue: dict[User, list[str]] = field(default_factory=dict)
    resting: dict[User, Row] = field(default_factory=dict)

    @property
    def cohort_id(self) -> str:
        return f"c{self.seed}"

    def named(self, row: Row) -> tuple[str, str] | None:
        """Return kind and user of a row: the first value that is there, as Snowflake shows it."""
        for (kind, _, column_type), value in zip(self.columns, row, strict=True):
            if value is not None:
                return KINDS[kind], shown(value, column_type)
        return None

    def is_held(self, kind: str, user: str) -> bool:
        digits = hashlib.md5(f"{self.cohort_id}:{kind}:{user}".encode(), usedforsecurity=False).hexdigest()[
            :8
        ]
        return int(digits, 16) < self.share * 2**32 // 100

    def members(self) -> dict[User, Row]:
        """Return each valid user at the source, with a row that names them."""
        found = ((self.named(row), row) for row in self.rows)
        return {(HERE, *name): row for name, row in found if name is not None and is_usable(name[1])}

    def action(self, user: User, member: Row | None) -> str | None:
        """Return what has to be done about one user; ``rest`` is nothing, for now."""
        held = member is not None and self.is_held(*user[1:])
        in_braze, doubt = self.stays.get(user) is False, user in self.doubts
        if member is not None and not held:
            if in_braze:
                return "refresh" if doubt or self.resync else None
            return "rest" if not self.resync and self.resting.get(user) == member else "enter"
        if in_braze or doubt:
            return "leave"
        if held != (user in self.stays):
            return "hold" if held else "drop"
        return None

    def actions(self) -> dict[User, str]:
        members = self.members()
        found = {user: self.action(user, members.get(user)) for user in {*members, *self.stays, *self.doubts}}
        leavers = {user for user, action in found.items() if action == "leave"}
        stayers = {user for user, held in self.stays.items() if not held and user in members} - leavers
        for user in self.shaken(leavers) & stayers:
            found[user] = found[user] or "refresh"
        return {user: action for user, action in found.items() if action}

    def shaken(self, leavers: set[User]) -> set[User]:
        """Return whose profile one of ``leavers`` may mean too, though under another kind of identifier."""
        # Also of one identifier now, when others were there before it.
        kinds = {kind for _, kind, _ in (*self.stays, *self.doubts, *self.overdue, *self.resting)}
        if kinds <= {KINDS[kind] for kind, *_ in self.columns} and len(self.columns) == 1:
            return set()
        found: set[User] = set()
        for row in self.rows:
            names = [
                (HERE, KINDS[kind], shown(value, column_type))
                for (kind, _, column_type), value in zip(self.columns, row, strict=True)
                if value is not None
            ]
            if any(other in leavers for other in names[1:]):
                found.add(names[0])
        # Braze refused to let them leave, and they are back: another name may have had the last word since.
        found |= self.overdue.keys() - self.resting.keys()
        since: dict[tuple[str, str], str] = {}
        for place, kind, user in leavers:
            leaver = (place, kind, user)
            for import_id in (*self.doubts.get(leaver, ()), *self.overdue.get(leaver, ())):
                began = STARTED[import_id]
                since[place, kind] = min(began, since.get((place, kind), began))
        for stayer, entered in self.entered.items():
            if any(
                place == stayer[0] and kind != stayer[1] and entered >= began
                for (place, kind), began in since.items()
            ):
                found.add(stayer)
        return found

    def figures(self) -> dict[str, int]:
        """Return what the plan has to count."""
        actions, members = self.actions(), self.members()
        number = Counter(actions.values())
        valid = sum((name := self.named(row)) is not None and is_usable(name[1]) for row in self.rows)
        return {
            "members": len(members),
            "in_braze": sum(not held for held in self.stays.values()),
            "in_doubt": len(self.doubts.keys() - {user for user, held in self.stays.items() if not held}),
            "enter": number["enter"],
            "leave": number["leave"],
            "refresh": number["refresh"],
            "quiet": number["hold"] + number["drop"],
            "held_out": sum(self.is_held(*user[1:]) for user in members),
            "duplicates": valid - len(members),
            "invalid": len(self.rows) - valid,
            "set_aside": number["rest"],
            "elsewhere": sum(action == "leave" and user[0] != HERE for user, action in actions.items()),
        }


def shown(value: Any, column_type: str) -> str:
    return f"{value:.2f}" if column_type == "NUMBER(12,2)" else str(value)


def is_usable(user: str) -> bool:
    return bool(user.strip(" \t\r\n")) and len(user.encode()) <= 987


# -- what is generated --------------------------------------------------------------------------------------------


def invent_case(seed: int) -> Case:
    random = Random(seed)  # noqa: S311
    kinds = random.sample(list(KINDS), seed % 4 + 1)
    types = [random.choice(["VARCHAR"] * 4 + ["NUMBER(38,0)", "NUMBER(12,2)", "UUID"]) for _ in kinds]
    names = random.sample(["ID", '"e mail"', '"50%"', "ID_KIND", '"user"'], len(kinds))
    case = Case(
        seed=seed,
        random=random,
        columns=list(zip(kinds, names, types, strict=True)),
        share=random.choice([0, 10, 50]),
        resync=random.random() < 0.25,
    )
    pool = [[invent_value(random, column_type) for _ in range(40)] for _, _, column_type in case.columns]
    case.rows = [
        tuple(None if random.random() < 0.35 else random.choice(values) for values in pool)
        for _ in range(120)
    ]
    case.rows += random.choices(case.rows, k=20)
    return case


def invent_value(random: Random, column_type: str) -> Any:
    if column_type == "NUMBER(38,0)":
        return random.choice([0, -1, 7, random.randrange(10**18)])
    if column_type == "NUMBER(12,2)":
        return random.choice([0, 7, -1.5, 0.25, 1234567.0])
    if column_type == "UUID":
        return str(uuid.UUID(int=random.getrandbits(128)))
    kind = random.random()
    if kind < 0.6:
        return random.choice(ODD)
    if kind < 0.7:
        return random.choice(INVALID)
    return "".join(random.choice(ODD)[0] for _ in range(random.randint(1, 12)))


def invent_past(case: Case) -> None:
    """Give some of the members, and some who are none, stays and doubts."""
    random, members = case.random, sorted(case.members())
    strangers = [(HERE, KINDS[kind], user) for kind in KINDS for user in random.sample(ODD, 8)]
    elsewhere = [(BEFORE, *user[1:]) for user in random.sample(members, len(members) // 4)]
    for user in [*members, *strangers, *elsewhere]:
        if random.random() < 0.5:
            # Whoever is held out now usually was before.
            case.stays[user] = random.random() < (0.8 if case.is_held(*user[1:]) else 0.1)
            case.entered[user] = random.choice(ENTERED)
        # The past of some cohorts has only the newer of the two imports, or none at all.
        imports = [["i1", "i2"], ["i2"], []][case.seed % 3]
        if imports and random.random() < 0.15:
            case.doubts[user] = random.sample(imports, random.randint(1, len(imports)))
        if imports and random.random() < 0.1:
            case.overdue[user] = random.sample(imports, 1)


# -- the same in Snowflake ----------------------------------------------------------------------------------------


class Bench:
    """The schema in which a case is tried."""

    def __init__(self, warehouse: Any) -> None:
        self.session, self.tables, self.schema = warehouse.session, warehouse.tables, warehouse.schema

    def source(self, case: Case) -> None:
        columns = ", ".join(f"{name} {column_type}" for _, name, column_type in case.columns)
        self.session.execute(f"CREATE OR REPLACE TABLE {self.schema}.SOURCE ({columns})")
        self.insert(f"{self.schema}.SOURCE", None, case.rows)

    def insert(self, table: str, columns: str | None, rows: Iterable[Sequence[Any]]) -> None:
        found = [tuple(row) for row in rows]
        into = f"{table} ({columns})" if columns else table
        for start in range(0, len(found), 400):
            part = found[start : start + 400]
            values = ", ".join("(" + ", ".join(["%s"] * len(row)) + ")" for row in part)
            self.session.execute(f"INSERT INTO {into} VALUES {values}", [v for row in part for v in row])

    def cohort(self, case: Case) -> Cohort:
        chain: dict[str, Any] = {
            kind: {"label": LABEL, "name": name} if kind == "user_alias" else name
            for kind, name, _ in case.columns
        }
        return Cohort(
            id=case.cohort_id,
            source={"table": f"{self.schema}.SOURCE"},
            identifiers=chain,
            holdout=f"{case.share}%",
        )

    def freeze(self, case: Case, import_id: str) -> Plan:
        with self.session.transaction():
            return freeze_plan(
                self.session,
                self.tables,
                cohort=self.cohort(case),
                workspace=WORKSPACE,
                place=Place.parse(HERE),
                import_id=import_id,
                full_resync=case.resync,
            )

    def changes(self, import_id: str) -> list[tuple[int, str, User, bool]]:
        rows = self.session.rows(
            f"SELECT SEQ, ACTION, PLACE, ID_KIND, USER_ID, HELD_OUT FROM {self.tables.change} "
            "WHERE IMPORT_ID = %s ORDER BY SEQ",
            (import_id,),
        )
        return [(seq, action, (place, kind, user), held) for seq, action, place, kind, user, held in rows]

    def past(self, case: Case) -> None:
        """Write the stays and the doubts, and others' that are none of this cohort's business."""
        mine = (WORKSPACE, case.cohort_id)
        for key in (mine, (WORKSPACE, "another"), ("other", case.cohort_id)):
            stays = [
                (*key, *user, case.entered[user], left, held == (key == mine))
                for user, held in case.stays.items()
                for left in ((None, "2026-01-06 00:00:00") if key == mine else (None,))
            ]
            if key == mine:
                gone = [(HERE, "external_id", f"long gone {n}") for n in range(3)]
                stays += [(*key, *user, "2026-01-01 00:00:00", "2026-01-02 00:00:00", False) for user in gone]
            self.insert(
                self.tables.membership,
                "WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, ENTERED_AT, LEFT_AT, HELD_OUT",
                stays,
            )
            # More than one import may have left the same doubt; with the others, everybody is in doubt.
            doubts = case.doubts if key == mine else {user: ["i1"] for user in [*case.stays, *case.doubts]}
            self.insert(
                self.tables.unknown,
                "WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, IMPORT_ID, RECORDED_AT",
                [(*key, *user, one, DOUBTED) for user, imports in doubts.items() for one in imports],
            )
            # With the others nobody was let go, and here everybody once: what became of that is no matter any more.
            overdue = case.overdue if key == mine else {user: ["i1"] for user in case.stays}
            refused: list[Row] = [
                (*key, *user, one, "leave", REJECTED, None)
                for user, imports in overdue.items()
                for one in imports
            ]
            refused += [
                (*key, *user, "i1", action, REJECTED, cleared)
                for user in case.stays
                for action, cleared in (("leave", REJECTED), ("refresh", REJECTED))
            ]
            self.insert(
                self.tables.rejected,
                "WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, IMPORT_ID, ACTION, REJECTED_AT, CLEARED_AT",
                refused,
            )
        self.insert(
            self.tables.run,
            "WORKSPACE, COHORT_ID, IMPORT_ID, STARTED_AT",
            [(*mine, import_id, started) for import_id, started in STARTED.items()],
        )

    def reject(
        self, case: Case, import_id: str, users: Sequence[User], *, hours: int, cleared: bool = False
    ) -> None:
        """Note that Braze rejected what an earlier plan had for ``users``, so many hours ago."""
        numbers = [seq for seq, _, user, _ in self.changes(import_id) if user in set(users)]
        self.session.execute(
            f"INSERT INTO {self.tables.rejected} (IMPORT_ID, WORKSPACE, COHORT_ID, SEQ, ACTION, PLACE, ID_KIND, "
            "USER_ID, ROW_HASH, REASON, REJECTED_AT, CLEARED_AT) SELECT IMPORT_ID, %s, %s, SEQ, ACTION, PLACE, "
            f"ID_KIND, USER_ID, ROW_HASH, 'no', DATEADD(hour, %s, SYSDATE()), {'SYSDATE()' if cleared else 'NULL'} "
            f"FROM {self.tables.change} WHERE IMPORT_ID = %s AND SEQ IN ({', '.join(map(str, numbers))})",
            (WORKSPACE, case.cohort_id, -hours, import_id),
        )

    def doubt(self, case: Case, import_id: str, users: Sequence[User], *, hours: int) -> None:
        """Note that what an earlier plan had for ``users`` got no certain answer, so many hours ago."""
        numbers = [seq for seq, _, user, _ in self.changes(import_id) if user in set(users)]
        self.session.execute(
            f"INSERT INTO {self.tables.unknown} (WORKSPACE, COHORT_ID, PLACE, ID_KIND, USER_ID, IMPORT_ID, "
            "RECORDED_AT) SELECT %s, %s, PLACE, ID_KIND, USER_ID, IMPORT_ID, DATEADD(hour, %s, SYSDATE()) "
            f"FROM {self.tables.change} WHERE IMPORT_ID = %s AND SEQ IN ({', '.join(map(str, numbers))})",
            (WORKSPACE, case.cohort_id, -hours, import_id),
        )


@pytest.fixture
def bench(warehouse: Any) -> Bench:
    return Bench(warehouse)


def assert_is_planned(bench: Bench, case: Case, import_id: str) -> None:
    """Freeze the plan of a case, and see that it is the oracle's."""
    plan = bench.freeze(case, import_id)
    expected = {user: action for user, action in case.actions().items() if action != "rest"}
    changes = bench.changes(import_id)
    assert {user: action for _, action, user, _ in changes} == expected
    assert {name: getattr(plan, name) for name in case.figures()} == case.figures()
    # Each user once, leavers first, and always in the same order.
    assert [seq for seq, *_ in changes] == list(range(1, len(expected) + 1))
    rank = {"leave": 0, "enter": 1, "refresh": 2, "hold": 3, "drop": 3}
    order = [(rank[action], user) for _, action, user, _ in changes]
    assert order == sorted(order)
    members = case.members()
    assert {user for _, _, user, held in changes if held} == {
        user for user in expected if user in members and case.is_held(*user[1:])
    }


@pytest.mark.parametrize("seed", range(16))
def test_the_plan_is_the_difference_that_plain_python_finds(bench: Bench, seed: int) -> None:
    case = invent_case(seed)
    bench.source(case)
    invent_past(case)
    bench.past(case)

    assert_is_planned(bench, case, "i9")

    assert len({*case.actions().values()}) >= 2


def test_somebody_is_sent_once_more_for_either_reason(bench: Bench) -> None:
    """See that the invented cases have what the oracle knows of kin."""
    found: Counter[str] = Counter()
    for case in map(invent_case, range(16)):
        invent_past(case)
        case.resync = False
        refreshed = {user for user, action in case.actions().items() if action == "refresh"}
        found["kin"] += len(refreshed - case.doubts.keys())
        case.overdue = {}
        case.doubts = {}
        found["named by the row"] += "refresh" in case.actions().values()
    assert found["kin"] > found["named by the row"] > 0


@pytest.mark.parametrize("seed", range(100, 105))
def test_whom_braze_rejected_rests_until_a_change_of_row_a_doubt_or_a_week_is_over(
    bench: Bench, seed: int
) -> None:
    case = invent_case(seed)
    case.resync = False
    bench.source(case)
    assert_is_planned(bench, case, "i1")
    entrants = sorted(user for user, action in case.actions().items() if action == "enter")
    # A user whose rows differ has no one row that could change.
    alone = [user for user in entrants if len({row for row in case.rows if case.named(row) == user[1:]}) == 1]
    case.random.shuffle(alone)
    earlier, lately, cleared = alone[0::6], alone[1::6], alone[2::6]
    doubted_before, doubted_since = alone[3::6], alone[4::6]
    bench.reject(case, "i1", earlier, hours=7 * 24 + 1)
    bench.reject(case, "i1", lately, hours=7 * 24 - 1)
    bench.reject(case, "i1", cleared, hours=1, cleared=True)
    # Whether Braze has somebody after a request without an answer was no longer the question when it refused them.
    bench.reject(case, "i1", doubted_before, hours=2)
    bench.doubt(case, "i1", doubted_before, hours=3)
    bench.reject(case, "i1", doubted_since, hours=3)
    bench.doubt(case, "i1", doubted_since, hours=4)
    bench.doubt(case, "i1", doubted_since, hours=2)
    case.doubts = {user: [] for user in [*doubted_before, *doubted_since]}
    members = case.members()
    resting = {*lately, *doubted_before}
    case.resting = {user: members[user] for user in resting}

    assert_is_planned(bench, case, "i2")
    assert {user for user, action in case.actions().items() if action == "rest"} == resting
    assert lately
    assert doubted_before
    assert doubted_since

    # Another value behind the one that names the user, or none any more: what Braze refused may have been put right.
    case.rows = [
        (*row[:-1], None) if any(value is not None for value in row[:-1]) else row for row in case.rows
    ]
    bench.source(case)
    assert_is_planned(bench, case, "i3")

    case.resync = True
    assert_is_planned(bench, case, "i4")
    assert "rest" not in case.actions().values()
