"""Reports of measured impact as the task ``measure_impact`` leaves them: JSON, with effects that were really judged."""

from __future__ import annotations

import dataclasses
import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.impact.before_after import BeforeAfter
from airflow_provider_kubit_braze.core.impact.figures import Experiment, Group, Revenue
from airflow_provider_kubit_braze.core.impact.judge import judge

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.impact.figures import ControlKind

#: Somebody's name of a campaign that is markup, as text it has to stay.
HOSTILE = "<img src=x onerror='globalThis.hacked = 1'><script>globalThis.hacked = 2</script>&\"</style>"

#: No table of the share can tell any of them.
UNKNOWN: dict[str, Any] = dict.fromkeys(
    ("reached", "sends", "delivered", "seen", "clicked", "converted", "revenue", "opted_out")
)


def figures(**changes: Any) -> dict[str, Any]:
    known = {
        "reached": 1200,
        "sends": 1203,
        "delivered": 1190,
        "seen": 400,
        "clicked": 90,
        "converted": 40,
        "revenue": 812.5,
        "opted_out": 3,
    }
    return {**known, **changes}


def _group(users: int, converters: int, buyers: int) -> Group:
    # Baskets of 20 on average, some of them larger.
    revenue = Revenue(buyers=buyers, total=20.0 * buyers, squares=600.0 * buyers, currency="USD")
    return Group(users=users, converters=converters, revenue=revenue)


def experiment(
    treated: tuple[int, int] = (90_000, 5_400),
    control: tuple[int, int] = (10_000, 500),
    *,
    share: float | None = 0.1,
    kind: ControlKind = "holdout",
    per_day: float = 500.0,
    with_revenue: bool = True,
) -> dict[str, Any]:
    """Judge two groups of so many users and converters, who are the buyers too."""
    groups = [_group(*one, one[1]) for one in (treated, control)]
    if not with_revenue:
        groups = [dataclasses.replace(one, revenue=None) for one in groups]
    judged = judge(
        Experiment(
            name="Win back",
            treated=groups[0],
            control=groups[1],
            control_kind=kind,
            control_share=share,
            new_users_per_day=per_day,
            reached=treated[0] // 2,
        )
    )
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(judged)))
    del found["name"]
    return found


#: One experiment for each verdict of conversion.
EXPERIMENTS = {
    "raised": ((90_000, 5_400), (10_000, 500)),
    "lowered": ((90_000, 3_600), (10_000, 500)),
    "none_found": ((900_000, 45_000), (100_000, 5_000)),
    "not_enough_data": ((900, 45), (100, 5)),
    "groups_broken": ((90_000, 5_400), (12_000, 500)),
    "no_comparison": ((90_000, 5_400), (0, 0)),
}


def before_after() -> dict[str, Any]:
    told = BeforeAfter(
        name="Win back",
        before=Group(users=1000, converters=20),
        after=Group(users=1000, converters=30),
    )
    return {
        "label": told.label,
        "sentence": told.sentence,
        "before": {"users": 1000, "converters": 20, "revenue": None, "currency": None},
        "after": {"users": 1000, "converters": 30, "revenue": 500.25, "currency": "EUR"},
    }


def days(count: int = 14, **changes: Any) -> list[dict[str, Any]]:
    first = date(2026, 11, 1)
    return [
        {
            "day": str(first + timedelta(days=one)),
            "figures": figures(
                reached=100 + one, clicked=5 + one, converted=one % 5, revenue=20.0 * (one % 5), **changes
            ),
        }
        for one in range(count)
    ]


def message(**changes: Any) -> dict[str, Any]:
    channels = [
        {"channel": "email", "figures": figures()},
        {"channel": "push", "figures": figures(reached=300, sends=310, delivered=298, seen=None, clicked=7)},
    ]
    variations = [
        {"channel": "email", "variation": "var-a", "name": "Short", "figures": figures(reached=600)},
        {"channel": "email", "variation": "var-b", "name": None, "figures": figures(reached=601)},
        {"channel": "push", "variation": "", "name": None, "figures": figures(reached=300)},
    ]
    found = {
        "kind": "campaign",
        "id": "campaign-1",
        "name": "Win back",
        "first_reach": "2026-11-01T09:00:00+00:00",
        "last_reach": "2026-11-14T09:00:00+00:00",
        "figures": figures(),
        "currency": "USD",
        "channels": channels,
        "variations": variations,
        "days": days(),
        "open_users": 17,
        "experiments": [experiment()],
        "not_judged": None,
        "before_after": None,
    }
    return {**found, **changes}


def report(*messages: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {
        "cohort_id": "lapsed_buyers",
        "cohort_name": "Lapsed buyers",
        "run_id": "scheduled__2026-11-29T00:00:00+00:00",
        "measure": "purchase within 7 days",
        "goal": "purchase",
        "messages_asked": "all",
        "window_seconds": 604800,
        "timezone": "UTC",
        "since": "2026-08-31",
        "until": "2026-11-29",
        "data_until": "2026-11-29T17:00:00+00:00",
        "measured_at": "2026-11-29T18:00:00+00:00",
        "days_measured": 3,
        "messages": list(messages) if messages else [message()],
        "messages_left_out": 0,
        "missing": [
            "seen, RCS: not possible, as the share lacks table USERS_MESSAGES_RCS_READ_SHARED.",
        ],
        "limits": ["seen, email: with opens by machines among them."],
        "notes": ["Revenue in EUR (3 % of the purchases) is not judged."],
    }
    return {**found, **changes}


def several() -> dict[str, Any]:
    """Return a report of all of them and three, of which one has no control group and one no figures."""
    return report(
        message(kind="all", id="all", name=None, figures=figures(reached=2100)),
        message(experiments=[experiment(*EXPERIMENTS["none_found"])]),
        message(
            kind="canvas",
            id="canvas-1",
            name=None,
            experiments=[],
            before_after=before_after(),
            variations=[],
        ),
        message(
            id="campaign-2",
            name="Nothing known",
            figures=UNKNOWN,
            channels=[{"channel": "rcs", "figures": UNKNOWN}],
            variations=[],
            days=[],
            first_reach=None,
            last_reach=None,
            experiments=[],
            currency=None,
        ),
    )


def hostile() -> dict[str, Any]:
    """Return a report that has markup wherever somebody else wrote the text; each says where it stands."""

    def at(place: str) -> str:
        return f"{place} {HOSTILE}"

    variation = {"variation": at("variation"), "name": None, "figures": figures()}
    described = {**before_after(), "label": at("label"), "sentence": at("sentence")}
    described["after"] = {**described["after"], "currency": at("currency before and after")}
    judged = experiment()
    # Of so few a difference is told in the currency, and one sentence is told in full.
    judged["conversion"]["sentence"] = at("verdict")
    judged["revenue"] = {**judged["revenue"], "currency": at("currency of the effect"), "lift": None}
    unsaid = experiment(*EXPERIMENTS["not_enough_data"], kind="control_path")
    unsaid |= {"control_id": "step", "control_name": at("experiment step")}
    unsaid["revenue"]["sentence"] = at("verdict of revenue")
    return report(
        message(
            id="one",
            name=at("name"),
            currency=at("currency"),
            channels=[{"channel": at("channel"), "figures": figures()}],
            variations=[
                {**variation, "channel": at("channel of a variation")},
                {**variation, "channel": "email", "variation": "v", "name": at("name of a variation")},
            ],
            experiments=[judged, unsaid],
            before_after=described,
        ),
        message(kind=at("kind"), id=at("id"), name=None, experiments=[], before_after=described),
        message(id="three", name=None, experiments=[], not_judged=at("not judged")),
        cohort_name=at("cohort"),
        measure=at("measure"),
        timezone=at("timezone"),
        run_id=at("run"),
        missing=[at("missing")],
        limits=[at("limits")],
        notes=[at("notes")],
    )
