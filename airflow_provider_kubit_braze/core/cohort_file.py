"""Cohort files: YAML in, cohorts and problems out. One bad cohort never hides the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.definitions import CohortFile, Definition, LoadedCohort, judge
from airflow_provider_kubit_braze.core.part import each, placed, show, unknown_key
from airflow_provider_kubit_braze.core.source import SqlFileIn
from airflow_provider_kubit_braze.core.yaml_text import Items, Located, parse_yaml
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CohortFile", "LoadedCohort", "cohort_files", "read_cohort_file", "read_cohorts"]

_SUFFIXES = (".yaml", ".yml")


def read_cohort_file(path: Path | str) -> CohortFile:
    """Read one cohort file.

    :param path: the file.
    """
    return judge(_read_file(Path(path)))


def read_cohorts(*paths: Path | str) -> CohortFile:
    """Read cohort files, and every cohort file below folders; a file that is named twice is read once.

    Definitions that share an id are all refused, since none can be trusted to be the one meant. So are
    cohorts that write one attribute through one Braze connection, since each would undo the other.

    :param paths: files and folders.
    """
    files: dict[str, Path] = {}
    for path in paths:
        for file in cohort_files(path):
            files.setdefault(os.path.realpath(file), file)
    return judge(definition for file in files.values() for definition in _read_file(file))


def cohort_files(path: Path | str) -> list[Path]:
    """Return a file itself, or every ``*.yaml`` and ``*.yml`` below a folder, sorted; hidden ones are skipped.

    :param path: a file, which need not be there, or a folder.
    """
    root = Path(path)
    return list(_files(root)) if root.is_dir() else [root]


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.endswith(_SUFFIXES):
                yield Path(here, name)


def _read_file(path: Path) -> list[Definition]:
    file = str(path)
    try:
        data = parse_yaml(_text(path), file=file)
        if not isinstance(data, Located):
            raise _no_mapping(data, file)
        if "cohorts" in data or "defaults" in data:
            return _several(data, path)
        if not data.keys() & Cohort.model_fields.keys():
            raise CohortConfigError(
                f"there is no cohort under {', '.join(data)}" if data else "the mapping is empty",
                fix="write id, source and identifiers, or a list of cohorts under cohorts",
                file=f"{file}:{data.line}",
            )
        return [_define(data, path)]
    except CohortConfigError as error:
        return [Definition(id=None, file=file, line=1, problems=each(error))]


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CohortConfigError(
            f"it cannot be read ({error.strerror or error})",
            fix="correct the path or its permissions",
            file=str(path),
        ) from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CohortConfigError(
            f"the file is not UTF-8 text (byte {error.start + 1} is 0x{raw[error.start]:02x})",
            fix="save it as UTF-8",
            file=f"{path}:{line}",
        ) from None


def _no_mapping(data: Any, file: str) -> CohortConfigError:
    place = f"{file}:1"
    if data is None:
        return CohortConfigError("the file is empty", fix="write a cohort, or remove the file", file=place)
    fix = "put the list under cohorts:" if isinstance(data, list) else "write a cohort's keys and values"
    return CohortConfigError(f"the file holds {show(data)} and not a mapping", fix=fix, file=place)


def _several(data: Located, path: Path) -> list[Definition]:
    """Define every cohort of a file with ``cohorts`` or ``defaults``."""
    file = str(path)
    found: list[Definition] = []

    def note(problem: CohortConfigError, line: int) -> None:
        found.append(
            Definition(id=None, file=file, line=line, problems=(placed(problem, file=f"{file}:{line}"),))
        )

    for key in data:
        if key in Cohort.model_fields:
            fix = "move it into the cohort it belongs to, or under defaults"
            note(CohortConfigError(f"{key!r} stands beside cohorts", fix=fix, field=key), data.lines[key])
        elif key not in ("cohorts", "defaults"):
            note(unknown_key(key, ("cohorts", "defaults")), data.lines[key])
    cohorts, defaults = data.get("cohorts"), data.get("defaults", Located(data.line))
    if not isinstance(cohorts, list) or not cohorts:
        problem = (
            f"{show(cohorts)} is not a list of cohorts" if "cohorts" in data else "there are defaults only"
        )
        note(
            CohortConfigError(
                problem, fix="write at least one cohort as a list item under cohorts", field="cohorts"
            ),
            data.line_of("cohorts"),
        )
        return found
    if not isinstance(defaults, Located):
        note(
            CohortConfigError(
                f"{show(defaults)} is not a mapping", fix="write keys and values below it", field="defaults"
            ),
            data.line_of("defaults"),
        )
        return found
    if "id" in defaults:
        note(
            CohortConfigError(
                "an id cannot be a default", fix="give each cohort an id of its own", field="defaults.id"
            ),
            defaults.line_of("id"),
        )
        return found
    for number, item in enumerate(cohorts):
        if isinstance(item, Located):
            found.append(_define(_merge(defaults, item), path))
        else:
            note(
                CohortConfigError(
                    f"{show(item)} is not a mapping",
                    fix="write the cohort's keys and values",
                    field="cohorts",
                ),
                cohorts.lines[number] if isinstance(cohorts, Items) else data.line_of("cohorts"),
            )
    return found


def _merge(defaults: Located, own: Located) -> Located:
    """Add what only the defaults say; a cohort's own keys stay first, for identifiers are tried in order."""
    merged = Located(own.line)
    for key, value in own.items():
        default = defaults.get(key)
        if isinstance(value, Located) and isinstance(default, Located):
            value = _merge(default, value)
        merged.put(key, value, own.lines[key])
    for key, value in defaults.items():
        if key not in own:
            merged.put(key, value, defaults.lines[key])
    return merged


def _define(data: Located, path: Path) -> Definition:
    """Build one cohort, with every problem placed at its line."""
    file = str(path)
    written = data.get("id")
    id_ = written if isinstance(written, str) else None
    try:
        if data.get("impact", False) is None:
            # In Python None says that nothing is measured; here somebody has forgotten what follows.
            raise CohortConfigError(
                "the key is left blank",
                fix="write true, or keys such as {window: 7d}, or remove the key",
                cohort=id_,
                field="impact",
            )
        cohort = Cohort(**_with_folder(data, path.parent))
    except CohortConfigError as error:
        by_line = sorted(each(error), key=lambda one: data.line_of(one.field))
        problems = [placed(one, file=f"{file}:{data.line_of(one.field)}") for one in by_line]
        return Definition(id=id_, file=file, line=data.line, problems=tuple(problems))
    return Definition(id=id_, file=file, line=data.line, cohort=cohort)


def _with_folder(data: Located, folder: Path) -> dict[str, Any]:
    """Tell a ``sql_file`` which folder its path starts at."""
    source = data.get("source")
    if not isinstance(source, Located) or not isinstance(source.get("sql_file"), str):
        return data
    return {**data, "source": {**source, "sql_file": SqlFileIn(folder, source["sql_file"])}}
