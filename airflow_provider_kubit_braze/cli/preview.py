"""``kubit-braze preview``: what the next import of a cohort would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.cli.context import Subject, run
from airflow_provider_kubit_braze.cli.screen import print_facts, print_json, print_sentence, screen
from airflow_provider_kubit_braze.core.masking import mask, plain
from airflow_provider_kubit_braze.previewing import preview_import

if TYPE_CHECKING:
    import argparse

    from airflow_provider_kubit_braze.previewing import Preview

#: What becomes of a user, by the action that the plan has for them.
_WORDS = {
    "enter": "added",
    "leave": "removed",
    "refresh": "sent_again",
    "hold": "held_out",
    "drop": "dropped",
}


def preview(arguments: argparse.Namespace) -> int:
    """Show what the next import would do.

    :param arguments: ``cohort``, ``file``, ``snowflake_conn_id``, ``braze_conn_id``, ``full_resync`` and ``json``.
    :return: the exit code: 1 also when a guard would stop the import.
    """
    return run(lambda: _show(Subject.of(arguments), arguments.full_resync, as_json=arguments.json))


def _show(subject: Subject, full_resync: bool, *, as_json: bool) -> int:
    found = preview_import(
        subject.cohort,
        settings=subject.settings,
        connect=subject.connect,
        tables=subject.tables,
        full_resync=full_resync,
    )
    if as_json:
        print_json(_as_dict(subject, found))
    else:
        _print(subject, found)
    return 1 if found.broken else 0


def _as_dict(subject: Subject, found: Preview) -> dict[str, Any]:
    """Return the preview under the names that the result of an import has, and what else there is."""
    plan, cohort = found.plan, subject.cohort
    return {
        "cohort_id": cohort.id,
        "cohort_name": cohort.name,
        "outcome": "dry_run",
        "members": plan.members,
        "users_imported": plan.in_braze,
        "users_before": plan.in_braze,
        "added": plan.enter,
        "removed": plan.leave,
        "sent_again": plan.refresh,
        "unchanged": plan.unchanged,
        "held_out": plan.held_out,
        "duplicates": plan.duplicates,
        "invalid": plan.invalid,
        "set_aside": plan.set_aside,
        "data_points": plan.data_points,
        "requests": found.forecast.requests,
        "least_seconds": round(found.forecast.seconds, 3),
        "would_stop": bool(found.broken),
        "guards": list(found.broken),
        "examples": _examples(found),
        "running": [one.identity.run_id for one in found.running],
        "workspace": subject.settings.workspace,
        "place": str(found.place),
        "sql": cohort.source.select,
    }


def _examples(found: Preview) -> dict[str, list[str]]:
    examples: dict[str, list[str]] = {}
    for one in found.examples:
        examples.setdefault(_WORDS[one.action], []).append(mask(one.user))
    return examples


def _print(subject: Subject, found: Preview) -> None:
    plan, cohort, out = found.plan, subject.cohort, screen()
    examples = _examples(found)

    def users(number: int, name: str) -> str:
        return f"{number:,}" + (f"  such as {', '.join(examples[name])}" if name in examples else "")

    bad = ", ".join(
        f"{number:,} {what}"
        for number, what in (
            (plan.duplicates, "repeat a user"),
            (plan.invalid, "have no usable identifier"),
        )
        if number
    )
    out.print(f"{cohort.name} ({cohort.id}): what the next import would do", style="bold")
    print_facts(
        out,
        [
            ("to", f"{found.place.words}, workspace {subject.settings.workspace}"),
            ("members", f"{plan.members:,} at the source" + (f"; of its rows {bad}" if bad else "")),
            ("in Braze now", f"{plan.in_braze:,}"),
            ("would add", users(plan.enter, "added")),
            ("would remove", users(plan.leave, "removed")),
            ("would send again", users(plan.refresh, "sent_again") if plan.refresh else ""),
            ("unchanged", f"{plan.unchanged:,}"),
            ("held out", f"{plan.held_out:,}" if plan.held_out else ""),
            ("set aside", f"{plan.set_aside:,} rejected lately" if plan.set_aside else ""),
            ("cost", str(found.forecast)),
            ("guards", "" if found.broken else "would let it pass"),
        ],
    )
    for sentence in found.broken:
        print_sentence(out, f"A guard would stop it: {sentence}", style="yellow")
    for one in found.running:
        print_sentence(
            out,
            f"Run {one.identity.run_id} has not ended; these figures are from before it.",
            style="yellow",
        )
    out.print(f"\nSource (connection {cohort.source.conn_id}):", style="bold")
    # Not through `plain`: a query has lines.
    out.print("\n".join(map(plain, cohort.source.select.expandtabs(4).splitlines())), soft_wrap=True)
