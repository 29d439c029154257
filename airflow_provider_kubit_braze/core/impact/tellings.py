"""What the rows of a share's tables tell about an impact, as far as this share has the tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from airflow_provider_kubit_braze.core.share_figures import NOT_OF_CANVASES, judge

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_kubit_braze.core.share_figures import Verdict

#: The figures of a message, in the order of its life. ``sends`` are rows, ``revenue`` money, all others users.
FUNNEL: Final = ("reached", "sends", "delivered", "seen", "clicked", "converted", "revenue", "opted_out")

#: What follows a message, and has a channel of its own.
_BY_CHANNEL: Final = ("reached", "delivered", "seen", "clicked")

#: Figures that the catalogue calls otherwise.
_NAMES: Final = {"sends": "reached", "opted_out": "opt-outs"}

#: Figure of the catalogue -> scope -> what its table's rows tell; of all these the channel is that of the message
#: before, or there is none.
_WITHOUT_CHANNEL: Final[Mapping[str, Mapping[str, str]]] = {
    "converted": {"campaigns": "converted", "Canvases": "converted", "experiment steps": "converted"},
    "revenue": {"campaigns": "revenue", "Canvases": "revenue", "purchases": "purchase"},
    "opt-outs": {"subscription states": "opted_out", "subscription groups": "opted_out"},
    "control group": {"campaigns": "control", "Canvases": "control", "experiment steps": "path"},
    "life of a user": {"custom events": "event"},
}

#: Kind of message -> the scopes that tell its conversions and revenue.
_SCOPES: Final = {"campaign": ("campaigns",), "canvas": ("Canvases", "experiment steps")}

_BOUNCES: Final = "USERS_MESSAGES_PUSHNOTIFICATION_BOUNCE_SHARED"

#: What is not a figure of a message, and so not missed in a report.
_BESIDES: Final = ("life of a user", "names")


@dataclass(frozen=True, order=True)
class Telling:
    """What a row of a table tells.

    :param figure: a figure of ``FUNNEL``; ``anchor``: it stands in for the reach of a channel whose own the share
        lacks; ``bounced``; ``purchase`` and ``event``: what users of both groups do; ``control``: membership in
        Braze's own control group; ``path``: the path of an experiment step, which may be its control path.
    :param channel: empty when the table has none.
    """

    figure: str
    channel: str = ""


class Tellings:
    """What a share can tell.

    :param there: the tables that it has, with their columns.
    """

    def __init__(self, there: Mapping[str, Collection[str]]) -> None:
        self._verdicts = {(one.figure.name, one.figure.scope): one for one in judge(there)}

    @cached_property
    def by_table(self) -> dict[str, tuple[Telling, ...]]:
        """Table of the catalogue -> what its rows tell."""
        found: dict[str, set[Telling]] = {}
        for (name, scope), verdict in self._verdicts.items():
            if not verdict.possible:
                continue
            for telling, tables in self._tell(name, scope, verdict):
                for table in tables:
                    found.setdefault(table, set()).add(telling)
        for channel in self.channels:
            if figure := self._stands_in(channel):
                for need in self._verdicts[figure, channel].figure.needs:
                    found[need.table].add(Telling("anchor", channel))
        return {table: tuple(sorted(tellings)) for table, tellings in sorted(found.items())}

    def tables(self, figures: Collection[str]) -> list[str]:
        """Return the tables that tell any of some figures.

        :param figures: of :class:`Telling`.
        """
        return [
            table
            for table, tellings in self.by_table.items()
            if any(one.figure in figures for one in tellings)
        ]

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """The channels of which the share can tell anything."""
        return tuple(
            dict.fromkeys(
                scope
                for (name, scope), verdict in self._verdicts.items()
                if name in _BY_CHANNEL and verdict.possible
            )
        )

    def knows(self, figure: str, *, kind: str | None = None, channel: str | None = None) -> bool:
        """Whether the share can tell a figure.

        :param figure: one of ``FUNNEL``.
        :param kind: ``campaign`` or ``canvas``; None: of either.
        :param channel: None: of any.
        """
        name = _NAMES.get(figure, figure)
        if name in ("converted", "revenue"):
            scopes = _SCOPES[kind] if kind else tuple(scope for one in _SCOPES.values() for scope in one)
            return any(self._possible(name, scope) for scope in scopes)
        if name == "opt-outs":
            email = channel in (None, "email") and self._possible(name, "email")
            return email or any(self._possible(name, scope) for scope in _WITHOUT_CHANNEL[name])
        return any(self._possible(name, one) for one in ([channel] if channel else self.channels))

    def knows_total(self, figure: str, *, kinds: Collection[str], channels: Collection[str]) -> bool:
        """Whether the share can tell a figure of several channels: all of them that have it, or it would be too small.

        :param figure: one of ``FUNNEL``.
        :param kinds: ``campaign`` or ``canvas``, or both.
        :param channels: the channels.
        """
        name = _NAMES.get(figure, figure)
        of_channel = [one for one in channels if name not in _BY_CHANNEL or (name, one) in self._verdicts]
        return bool(of_channel) and all(
            self.knows(figure, kind=kind, channel=channel) for kind in kinds for channel in of_channel
        )

    @property
    def missing(self) -> list[str]:
        """What the share cannot tell, as sentences."""
        return [one.sentence for one in self._told if not one.possible]

    def limits(self, channels: Collection[str], *, of_canvases: bool = False) -> list[str]:
        """Return what the share tells with limits, as sentences.

        :param channels: those that anything was counted of; the limits of others are of no interest.
        :param of_canvases: whether anything was counted of a Canvas: then it matters of which channels nothing can be.
        """
        told = []
        for one in self._told:
            if one.figure.name in _BY_CHANNEL and one.figure.scope not in channels:
                only = (NOT_OF_CANVASES,) if of_canvases and NOT_OF_CANVASES in one.limits else ()
                one = replace(one, limits=only)
            if one.possible and one.limits:
                told.append(one.sentence)
        standing_in = [
            f"{channel}: whom it reached is not known, so what followed is counted from {figure} on."
            for channel in self.channels
            if channel in channels and (figure := self._stands_in(channel))
        ]
        return [*told, *standing_in]

    @property
    def _told(self) -> list[Verdict]:
        return [verdict for (name, _), verdict in self._verdicts.items() if name not in _BESIDES]

    def _possible(self, name: str, scope: str) -> bool:
        verdict = self._verdicts.get((name, scope))
        return verdict is not None and verdict.possible

    def _stands_in(self, channel: str) -> str | None:
        """Return the figure that stands in for the reach of a channel, None when it is known itself."""
        figure = next(name for name in _BY_CHANNEL if self._possible(name, channel))
        return None if figure == "reached" else figure

    def _tell(self, name: str, scope: str, verdict: Verdict) -> list[tuple[Telling, list[str]]]:
        tables = [need.table for need in verdict.figure.needs]
        if (name, scope) == ("delivered", "push"):
            # Delivered are the sends without a bounce.
            return [(Telling("bounced", scope), [_BOUNCES])]
        if name in _BY_CHANNEL:
            return [(Telling(name, scope), tables)]
        if (name, scope) == ("opt-outs", "email"):
            return [(Telling("opted_out", scope), tables)]
        figure = _WITHOUT_CHANNEL.get(name, {}).get(scope)
        return [(Telling(figure), tables)] if figure else []
