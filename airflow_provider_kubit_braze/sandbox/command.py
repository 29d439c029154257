"""``kubit-braze sandbox``: the local services in the foreground, until Ctrl-C."""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_kubit_braze.sandbox import campaign_command
from airflow_provider_kubit_braze.sandbox.connections import SERVICES

if TYPE_CHECKING:
    import argparse

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

#: The day for which ``--with-cdnow`` computes the cohorts: the last with new customers.
CDNOW_DAY = datetime.date(1997, 3, 25)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``kubit-braze sandbox``."""
    parser.add_argument(
        "--directory", type=Path, help="keep data, certificates and logs here; default: a temporary directory"
    )
    parser.add_argument(
        "--with-cdnow",
        action="store_true",
        help="load the CDNOW purchases, compute four cohorts, and let Braze know the customers",
    )
    parser.add_argument(
        "--cdnow-day",
        type=datetime.date.fromisoformat,
        default=CDNOW_DAY,
        metavar="YYYY-MM-DD",
        help="with --with-cdnow: the day the cohorts are computed for (default: %(default)s)",
    )
    parser.add_argument(
        "--with-share",
        action="store_true",
        help="make a share of Braze's data, BRAZE_SHARE.PUBLIC, with all tables that Braze documents, empty",
    )
    for service in SERVICES:
        parser.add_argument(f"--{service}-port", type=int, default=0, help="default: any free port")
    about = "Run a campaign with a true effect in a sandbox that runs already, and say what is true of it."
    commands = parser.add_subparsers(metavar="campaign")
    campaign_command.add_arguments(commands.add_parser("campaign", help=about, description=about))


def run(args: argparse.Namespace) -> int:
    """Run the sandbox until Ctrl-C or SIGTERM; return the exit code."""
    # Not before: `kubit-braze --help` asks for the arguments too.
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox
    from airflow_provider_kubit_braze.sandbox.process import SandboxError, stop_event

    stop = stop_event(exit_with_parent=False)
    ports = {service: getattr(args, f"{service}_port") for service in SERVICES}
    try:
        with Sandbox(directory=args.directory, ports=ports) as sandbox:
            if args.with_cdnow and not stop.is_set():
                _load_cdnow(sandbox, args.cdnow_day)
            if args.with_share and not stop.is_set():
                _make_share(sandbox)
            print(_welcome(sandbox), flush=True)
            stop.wait()
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _load_cdnow(sandbox: Sandbox, day: datetime.date) -> None:
    from airflow_provider_kubit_braze.sandbox import cdnow

    purchases = cdnow.load_purchases()
    with sandbox.connect() as connection:
        cdnow.load_into_snowflake(connection, purchases)
        sizes = cdnow.compute_cohorts(connection, day)
    customers = cdnow.customer_ids(purchases)
    sandbox.braze.add_users([{"external_id": customer} for customer in customers])
    print(f"CDNOW: {len(purchases):,} purchases of {len(customers):,} customers, cohorts as of {day}:")
    for name, size in sizes.items():
        print(f"  {cdnow.COHORT_SCHEMA}.{name}: {size:,} users")


def _make_share(sandbox: Sandbox) -> None:
    from airflow_provider_kubit_braze.sandbox import braze_share

    with sandbox.connect() as connection:
        tables = braze_share.make_share_tables(connection)
    print(f"Braze's data share: {tables} tables in {braze_share.SHARE}")


def _welcome(sandbox: Sandbox) -> str:
    lines = [
        f"Snowflake {sandbox.snowflake_url}  (statements: {sandbox.snowflake_url}/_sandbox/queries)",
        f"Braze     {sandbox.braze_url}  (state: {sandbox.braze_url}/_sandbox/counters)",
        f"Mailbox   smtp://{sandbox.mailbox.host}:{sandbox.mailbox.port}  (mails: {sandbox.mailbox.file})",
        f"Files     {sandbox.directory}",
        "",
        "Paste this where Airflow shall find them:",
        *(f"export {name}={shlex.quote(value)}" for name, value in sandbox.env().items()),
        "",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)
