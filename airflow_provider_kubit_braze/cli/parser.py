"""The arguments of ``kubit-braze``. Only what a command needs is imported, when it is to run: ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kubit_braze.cli.output import own_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_HERE = "airflow_provider_kubit_braze.cli"


class _Command(NamedTuple):
    """One command.

    :param help: what it does.
    :param add_arguments: says what it takes.
    :param run: ``module:function`` that runs it.
    :param airflow: whether it needs Airflow.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: str
    airflow: bool = True


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 for success, 1 for a finding, 2 for wrong use.

    :param argv: the arguments; default: those of the process.
    """
    parser = make_parser()
    if "_ARGCOMPLETE" in os.environ:
        # A shell asks what could stand next; this ends the process.
        import argcomplete

        argcomplete.autocomplete(parser)
    arguments = parser.parse_args(argv)
    module, _, function = arguments.run.partition(":")
    with own_output() if arguments.airflow else nullcontext():
        code: int = getattr(import_module(module), function)(arguments)
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from airflow_provider_kubit_braze import __version__

    parser = argparse.ArgumentParser(
        prog="kubit-braze",
        description="Cohorts from Snowflake to Braze.",
        epilog="Ends with 0 when all is well, with 1 for a finding or a failure, with 2 for wrong use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in _commands().items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, airflow=command.airflow)
    return parser


def _commands() -> dict[str, _Command]:
    return {
        "validate": _Command(
            "Check cohort files, as a DAG file would.", _validate, f"{_HERE}.validate:validate", airflow=False
        ),
        "preview": _Command(
            "Say what the next import of a cohort would do, and do nothing.",
            _preview,
            f"{_HERE}.preview:preview",
        ),
        "history": _Command("List the imports of a cohort.", _history, f"{_HERE}.history:history"),
        "why": _Command("Explain why a user is in a cohort in Braze, or is not.", _why, f"{_HERE}.why:why"),
        "impact": _Command(
            "Measure what Braze's messages did to a cohort; with --check, say which figures a share can yield.",
            _impact,
            f"{_HERE}.impact:impact",
        ),
        "undo": _Command(
            "Reverse the last import of a cohort, as an import of its own.",
            _reversal,
            f"{_HERE}.reversals:undo",
        ),
        "retire": _Command(
            "Take everybody of a cohort out of Braze, before its file is deleted.",
            _retire,
            f"{_HERE}.reversals:retire",
        ),
        "schema": _Command(
            "Print the JSON Schema of cohort files, for editors to complete from.",
            lambda _: None,
            f"{_HERE}.validate:schema",
            airflow=False,
        ),
        "sandbox": _Command(
            "Run a local Snowflake, Braze and mailbox until Ctrl-C.",
            _sandbox,
            "airflow_provider_kubit_braze.sandbox.command:run",
            airflow=False,
        ),
    }


# -- what each of them takes ------------------------------------------------------------------------------------


def _validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="+", help="a cohort file, or a folder of them")
    _json(parser, "print a list with one object for each problem")


def _preview(parser: argparse.ArgumentParser) -> None:
    _cohort(parser)
    _file(parser, "the cohort file, or folder, that defines the cohort", required=True)
    _connections(parser)
    parser.add_argument("--full-resync", action="store_true", help="as if every member were sent once more")
    _json(parser)


def _history(parser: argparse.ArgumentParser) -> None:
    _cohort(parser)
    parser.add_argument(
        "--limit",
        type=_positive,
        default=20,
        metavar="N",
        help="how many, newest first (default: %(default)s)",
    )
    _file(parser, "the cohort file, or folder, that names the connection to Snowflake")
    _connections(parser, braze=False)
    _json(parser)


def _why(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "user", metavar="USER", help="an id, an address or a number: any of the cohort's identifiers"
    )
    _complete(
        parser.add_argument("--cohort", metavar="ID", dest="cohort", required=True, help="the cohort's id")
    )
    _file(parser, "the cohort file, or folder, that defines the cohort", required=True)
    _connections(parser)
    _json(parser)


def _impact(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument("cohort", metavar="COHORT", nargs="?", help="the cohort's id"))
    _file(
        parser,
        "the cohort file, or folder, that defines the cohort: its keys impact and braze say what is measured unless "
        "an option says otherwise",
    )
    _connections(parser)
    parser.add_argument(
        "--share", metavar="DB.SCHEMA", help="database and schema of the share, such as BRAZE_SHARE.PUBLIC"
    )
    parser.add_argument("--app-group-id", metavar="ID", help="APP_GROUP_ID of the workspace in the share")
    for name, what in (("campaign", "campaign"), ("canvas", "Canvas")):
        parser.add_argument(
            f"--{name}",
            metavar="ID",
            action="append",
            default=[],
            help=f"API identifier of a {what}; may be repeated (default: the file's, or all)",
        )
    parser.add_argument(
        "--goal",
        metavar="GOAL",
        help="purchase, or the name of a custom event (default: the file's, or purchase)",
    )
    parser.add_argument(
        "--window",
        metavar="7d",
        help="how long after a message what users do is credited to it (default: the file's, or 7d)",
    )
    parser.add_argument(
        "--since",
        metavar="DATE",
        help="the first day, such as 2026-01-31 (default: the file's, or so that there are 90; with --user: all)",
    )
    parser.add_argument(
        "--until", metavar="DATE", help="the last day (default: the file's, or today; with --user: today)"
    )
    parser.add_argument("--timezone", metavar="TZ", help="whose days these are (default: the file's, or UTC)")
    parser.add_argument(
        "--full-refresh", action="store_true", help="count all days anew, also those counted before"
    )
    parser.add_argument("--html", metavar="FILE", help="write the report as one HTML file to send on, too")
    _timelines(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="look which tables and columns the share has; one query, and no row of the share is read",
    )
    _json(parser)


def _timelines(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--user", metavar="USER", action=_Timeline, help="tell the life of one user instead")
    which.add_argument("--timeline", action=_Timeline, nargs=0, help="tell the days of the cohort instead")
    parser.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help="with --user: the latest so many (default: 200)",
    )


class _Timeline(argparse.Action):
    """Has the command run elsewhere."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, True if self.nargs == 0 else values)
        namespace.run = f"{_HERE}.timeline:timeline"


def _reversal(parser: argparse.ArgumentParser) -> None:
    _cohort(parser)
    _file(
        parser,
        "the cohort file, or folder, that defines the cohort: its connections, on_exit and create_users count. "
        "Without it, leavers get the value false and nobody is created",
    )
    _connections(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _retire(parser: argparse.ArgumentParser) -> None:
    _reversal(parser)
    parser.add_argument(
        "--forget",
        action="store_true",
        help="for a workspace that is gone: tell Braze nothing, and forget who is in the cohort there",
    )
    parser.add_argument(
        "--workspace",
        metavar="NAME",
        help="with --forget: the workspace as the ledger calls it, such as rest.iad-01.braze.com/kubit_braze_default",
    )


def _sandbox(parser: argparse.ArgumentParser) -> None:
    from airflow_provider_kubit_braze.sandbox import command

    command.add_arguments(parser)


# -- what several of them take ----------------------------------------------------------------------------------


def _cohort(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument("cohort", metavar="COHORT", help="the cohort's id"))


def _file(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    parser.add_argument("--file", metavar="PATH", required=required, help=text)


def _connections(parser: argparse.ArgumentParser, *, braze: bool = True) -> None:
    parser.add_argument(
        "--snowflake-conn-id",
        metavar="ID",
        help="Airflow connection to Snowflake (default: the file's, or snowflake_default)",
    )
    if braze:
        parser.add_argument(
            "--braze-conn-id",
            metavar="ID",
            help="Airflow connection to Braze (default: the file's, or kubit_braze_default)",
        )


def _json(parser: argparse.ArgumentParser, text: str = "print JSON") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 or more")
    return number


def _complete(action: Any) -> None:
    """Have a shell complete the cohort's id, from the file that the command line names already."""
    action.completer = _ids


def _ids(*, parsed_args: argparse.Namespace, **_: object) -> Iterable[str]:
    from airflow_provider_kubit_braze.core.cohort_file import read_cohorts

    file = getattr(parsed_args, "file", None)
    return [loaded.cohort.id for loaded in read_cohorts(file).cohorts] if file else []
