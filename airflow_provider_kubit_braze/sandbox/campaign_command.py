"""``kubit-braze sandbox campaign``: a campaign with a true effect that is known, in a sandbox that runs elsewhere.

A campaign takes days, and whoever measures it wants to see it over: so it lies in the past, and where the cohort was
imported only just now, the ledger is set back as a whole to before it. Nothing but a sandbox is ever written to.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import argparse

    from snowflake.connector import SnowflakeConnection

    from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
    from airflow_provider_kubit_braze.sandbox.life_people import Behaviour
    from airflow_provider_kubit_braze.sandbox.life_truth import Truth
    from airflow_provider_kubit_braze.warehouse.state import Tables

_STATE: Final = "AIRFLOW__KUBIT_BRAZE__STATE_SCHEMA"

_APP_GROUP: Final = "sandbox"
_HERE: Final = "airflow_provider_kubit_braze.sandbox.campaign_command"

#: Kinds of identifiers by which the local Braze finds those held out.
_KINDS: Final = ("external_id", "braze_id", "email", "phone")

#: Whoever is sent it has come so long before it.
_MINUTE: Final = timedelta(minutes=1)
_HOUR: Final = timedelta(hours=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``kubit-braze sandbox campaign``."""
    parser.set_defaults(run=f"{_HERE}:run")
    parser.add_argument(
        "--cohort", metavar="ID", required=True, help="the cohort, which has been imported into the sandbox"
    )
    which = parser.add_mutually_exclusive_group()
    for kind in ("campaign", "canvas"):
        which.add_argument(
            f"--{kind}",
            metavar="ID",
            help="the local Braze gets one of this id if it has none"
            + (" (default: sandbox-campaign)" if kind == "campaign" else ""),
        )
    parser.add_argument(
        "--lift",
        type=float,
        default=0.35,
        help="what it truly does: 0.35 is 35%% more (default: %(default)s)",
    )
    parser.add_argument(
        "--base", type=float, default=0.1, help="share of the users who buy without it (default: %(default)s)"
    )
    parser.add_argument("--window", default="7d", help="how long it has its effect (default: %(default)s)")
    parser.add_argument(
        "--channel",
        action="append",
        metavar="NAME",
        help="such as email; may be repeated (default: five of them)",
    )
    parser.add_argument("--name", help="what it is called in the share (default: its id)")
    parser.add_argument(
        "--seed", type=int, default=7, help="decides about all that is chance (default: %(default)s)"
    )
    parser.add_argument(
        "--share", metavar="DB.SCHEMA", help="the local share, made if need be (default: BRAZE_SHARE.PUBLIC)"
    )
    parser.add_argument(
        "--app-group-id", metavar="ID", default=_APP_GROUP, help="of its rows (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the truth as JSON")


def run(args: argparse.Namespace) -> int:
    """Run a campaign and print what is true of it; return the exit code: 2 for wrong use, 1 when it could not be run.

    :param args: those of ``add_arguments``.
    """
    from airflow_provider_kubit_braze.core.braze_target import parse_share
    from airflow_provider_kubit_braze.core.durations import parse_duration
    from airflow_provider_kubit_braze.exceptions import KubitBrazeError
    from airflow_provider_kubit_braze.sandbox.life_channels import CHANNELS
    from airflow_provider_kubit_braze.sandbox.life_people import Behaviour
    from airflow_provider_kubit_braze.sandbox.process import SandboxError

    try:
        if args.share is not None:
            parse_share(args.share)
        if strange := [one for one in args.channel or () if one not in CHANNELS]:
            raise SandboxError(f"{strange[0]!r} is no channel; there are {', '.join(CHANNELS)}.")
        window = parse_duration(args.window)
        behaviour = Behaviour(base=args.base, lift=args.lift, window=window, after=max(window / 4, _HOUR))
    except KubitBrazeError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        done = _run(args, behaviour)
    except KubitBrazeError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(done.as_dict(), indent=2) if args.json else done.text(args))
    return 0


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What was done.

    :param cohort_id: the cohort.
    :param share: the schema.
    :param truth: what a measurement has to find.
    :param behaviour: how people buy.
    :param was_triggered: whether somebody else had triggered it.
    :param set_back: by how long the ledger was.
    :param measured_before: whether something was measured of the cohort, which another share takes the place of.
    """

    cohort_id: str
    share: str
    truth: Truth
    behaviour: Behaviour
    was_triggered: bool
    set_back: timedelta
    measured_before: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "cohort_id": self.cohort_id,
            "share": self.share,
            "was_triggered": self.was_triggered,
            "set_back_seconds": round(self.set_back.total_seconds()),
            "truth": self.truth.as_dict(),
        }

    def text(self, args: argparse.Namespace) -> str:
        """Return it for people."""
        from airflow_provider_kubit_braze.core.durations import duration_text, time_in_words

        truth, window = self.truth, duration_text(self.behaviour.window)
        message = truth.message
        how = "as it was triggered before" if self.was_triggered else "triggered now"
        groups = [
            f"{name:<9} {group.users:,} users, of whom each buys with {100 * group.conversion_rate:.4g}%; "
            f"{group.converters:,} did"
            for name, group in (("treated", truth.treated), ("held out", truth.held_out))
        ]
        channels = ", ".join(
            f"{figures['reached']:,} {channel}" for channel, figures in truth.channels.items()
        )
        lines = [
            f"{message.name} ({message.kind} {message.api_id}) to {self.cohort_id}, {how}; dated "
            f"{truth.at:%Y-%m-%d %H:%M} UTC, over since {truth.until:%Y-%m-%d %H:%M} UTC. True of it is:",
            f"lift      {100 * (truth.lift or 0):+.4g}% within {window}, of conversions and of revenue",
            *groups,
            f"reached   {truth.figures['reached']:,} users: {channels}",
            f"rows      {truth.rows:,} in {self.share}, app group {args.app_group_id}",
        ]
        if self.set_back:
            lines.append(
                f"ledger    all that it has of {self.cohort_id} was set back by "
                f"{time_in_words(self.set_back.total_seconds())}, to "
                "before the message"
            )
        measure = f"--share {self.share} --app-group-id {args.app_group_id} --window {window}"
        if self.measured_before:
            measure += " --full-refresh"
        return "\n".join([*lines, "", f"Measure it: kubit-braze impact {self.cohort_id} {measure}"])


def _run(args: argparse.Namespace, behaviour: Behaviour) -> _Done:
    from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_CAMPAIGN
    from airflow_provider_kubit_braze.sandbox.braze_share import SHARE
    from airflow_provider_kubit_braze.sandbox.campaign_life import STATE, held_out_of, run_campaign
    from airflow_provider_kubit_braze.sandbox.running import local_braze, local_snowflake
    from airflow_provider_kubit_braze.warehouse.state import Tables

    kind, message_id = (
        ("canvas", args.canvas) if args.canvas else ("campaign", args.campaign or DEFAULT_CAMPAIGN)
    )
    share, tables = args.share or SHARE, Tables(os.environ.get(_STATE) or STATE)
    braze, key = local_braze()
    now = datetime.now(UTC).replace(microsecond=0)
    at = now - behaviour.window - behaviour.after - _HOUR
    with local_snowflake() as connection:
        identifier, attribute = _known(connection, tables, args.cohort)
        _refuse_a_second_life(connection, share)
        measured_before = _was_measured(connection, tables, args.cohort)
        was_triggered = _triggered(braze, key, kind, message_id, attribute)
        truth = run_campaign(
            braze,
            connection,
            message_id,
            seed=args.seed,
            app_group_id=args.app_group_id,
            held_out=held_out_of(connection, args.cohort, state=tables.schema),
            identifier=identifier,
            name=args.name,
            share=share,
            at=at,
            behaviour=behaviour,
            **({"channels": args.channel} if args.channel else {}),
        )
        set_back = _set_back(connection, tables, args.cohort, at)
    return _Done(
        cohort_id=args.cohort,
        share=share,
        truth=truth,
        behaviour=behaviour,
        was_triggered=was_triggered,
        set_back=set_back,
        measured_before=measured_before,
    )


# -- the cohort and its message ---------------------------------------------------------------------------------


def _known(connection: SnowflakeConnection, tables: Tables, cohort_id: str) -> tuple[str, str]:
    """Return by what the ledger knows the users of a cohort, and the attribute that they have in Braze."""
    from airflow_provider_kubit_braze.core.place import Place
    from airflow_provider_kubit_braze.sandbox.process import SandboxError
    from airflow_provider_kubit_braze.warehouse.session import split_name, stored_name

    *database, schema = split_name(tables.schema)
    catalog = f"{database[0]}." if database else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT COUNT(*) FROM {catalog}INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = %s "
            "AND TABLE_NAME = 'COHORT_MEMBERSHIP'",
            (stored_name(schema),),
        )
        [(there,)] = cursor.fetchall()
        stays: list[Any] = []
        if there:
            cursor.execute(
                f"SELECT DISTINCT ID_KIND, PLACE FROM {tables.membership} WHERE COHORT_ID = %s AND LEFT_AT IS NULL",
                (cohort_id,),
            )
            stays = cursor.fetchall()
    if not stays:
        raise SandboxError(
            f"Nobody is in cohort {cohort_id!r} by the ledger in {tables.schema}: import it into the sandbox first."
        )
    kinds, places = ({row[at] for row in stays} for at in (0, 1))
    place = Place.parse(places.pop()) if len(places) == 1 else None
    if place is None or place.kind != "attribute" or len(kinds) > 1 or not kinds <= set(_KINDS):
        raise SandboxError(
            f"A campaign goes to a cohort that is one attribute in Braze, of users known by one of {', '.join(_KINDS)};"
            f" cohort {cohort_id!r} is not."
        )
    return kinds.pop(), place.name


def _was_measured(connection: SnowflakeConnection, tables: Tables, cohort_id: str) -> bool:
    """Whether an impact on the cohort was measured: of the one share that it can have been by then."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM {tables.impact_refresh} WHERE COHORT_ID = %s LIMIT 1", (cohort_id,))
        return bool(cursor.fetchall())


def _refuse_a_second_life(connection: SnowflakeConnection, share: str) -> None:
    """Say no where somebody lives already: of two lives in one share, neither's truth would be found."""
    from airflow_provider_kubit_braze.sandbox.braze_share import make_schema
    from airflow_provider_kubit_braze.sandbox.life_rows import columns_of
    from airflow_provider_kubit_braze.sandbox.process import SandboxError

    table = "USERS_BEHAVIORS_PURCHASE_SHARED"
    with connection.cursor() as cursor:
        make_schema(cursor, share)
        if table not in columns_of(connection, share):
            return
        cursor.execute(f"SELECT 1 FROM {share}.{table} LIMIT 1")
        lives = cursor.fetchall()
    if lives:
        raise SandboxError(
            f"{share} has purchases already, and who buys for two reasons shows neither: name another share, such as "
            "--share BRAZE_SHARE.SECOND, which is made, or start a new sandbox."
        )


def _triggered(braze: BrazeControl, key: str, kind: str, message_id: str, attribute: str) -> bool:
    """Trigger a message for the cohort, unless somebody has; return whether somebody had."""
    import requests

    from airflow_provider_kubit_braze.core.campaign import CampaignRequest
    from airflow_provider_kubit_braze.sandbox.process import SandboxError

    braze.settle()
    members = braze.cohort(attribute, "braze_id")
    requested = [one for one in braze.triggered("braze_id") if one["message_id"] == message_id]
    if requested and requested[-1]["selected"] and set(requested[-1]["selected"]) <= members:
        return True
    there = braze.settings()[name := "canvases" if kind == "canvas" else "campaigns"]
    if message_id not in there:
        braze.configure(**{name: [*there, message_id]})
    request = CampaignRequest(
        kind="canvas" if kind == "canvas" else "campaign",
        message_id=message_id,
        attribute=attribute,
        broadcast=True,
    )
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            f"{braze.url}{request.path}",
            json=request.body(),
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        )
    if not answer.ok:
        raise SandboxError(f"The local Braze did not take the {kind} {message_id!r}: {answer.text}")
    return False


def _set_back(connection: SnowflakeConnection, tables: Tables, cohort_id: str, at: datetime) -> timedelta:
    """Set all that the ledger has of a cohort back to before a moment; return by how long, whole minutes."""
    of_cohort = "WHERE COHORT_ID = %s"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT MAX(ENTERED_AT) FROM {tables.membership} {of_cohort}", (cohort_id,))
        [(latest,)] = cursor.fetchall()
        late: timedelta = latest.replace(tzinfo=UTC) - at
        if late < timedelta(0):
            return timedelta(0)
        by = (late // _MINUTE + 2) * _MINUTE
        for table, names in (
            (tables.membership, ("ENTERED_AT", "LEFT_AT")),
            (tables.run, ("STARTED_AT", "FINISHED_AT")),
        ):
            moved = ", ".join(f"{name} = DATEADD(SECOND, %s, {name})" for name in names)
            seconds = [-round(by.total_seconds())] * len(names)
            cursor.execute(f"UPDATE {table} SET {moved} {of_cohort}", (*seconds, cohort_id))
    return by
