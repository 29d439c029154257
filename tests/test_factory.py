"""Cohort files to DAGs, as Airflow itself reads DAG files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag, DagBag
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError
from airflow_provider_kubit_braze.factory import cohort_dag, impact_dag, load_cohort_dags

if TYPE_CHECKING:
    from collections.abc import Callable

THREE_LINES = """\
from pathlib import Path
from airflow_provider_kubit_braze.factory import load_cohort_dags
load_cohort_dags(Path(__file__).parent / "cohorts")
"""


def cohort_text(id_: str, more: str = "", *, source: str = "{table: DB.S.T}") -> str:
    """The YAML of one cohort."""
    return f"id: {id_}\nsource: {source}\nidentifiers: {{external_id: USER_ID}}\n{more}\n"


def cohort(**fields: Any) -> Cohort:
    """A cohort with everything that shows in its DAG."""
    given: dict[str, Any] = {
        "id": "vip",
        "name": "Very | important",
        "source": {"table": "DB.S.VIP", "ready": {"column": "COMPUTED_AT", "within": "26h"}},
        "identifiers": {"external_id": "USER_ID"},
        "schedule": {"mode": "weekly", "on": "monday", "at": "09:00", "timezone": "America/New_York"},
        "notify": ["growth@example.com", "ann@example.com"],
    }
    return Cohort(**{**given, **fields})


def task(dag: Any, task_id: str) -> Any:
    return dag.task_dict[task_id]


class Folder:
    """A folder of DAG files with a folder of cohort files in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dag_file("my_cohorts.py", THREE_LINES)

    def dag_file(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def cohorts(self, name: str, text: str) -> Path:
        file = self.path / "cohorts" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def bag(self) -> Any:
        return BundleDagBag(str(self.path), bundle_path=self.path, bundle_name="dags-folder")


@pytest.fixture
def folder(dags_folder: Path) -> Folder:
    return Folder(dags_folder)


# -- where cohorts come from ------------------------------------------------------------------------------


def test_three_lines_make_a_dag_of_every_cohort(folder: Folder) -> None:
    folder.cohorts("a.yaml", cohort_text("a"))
    folder.cohorts("team/b.yml", "cohorts:\n- {id: b, source: {table: T}, identifiers: {email: E}}\n")

    bag = folder.bag()

    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["kubit_braze__a", "kubit_braze__b"]
    assert {dag.relative_fileloc for dag in bag.dags.values()} == {"my_cohorts.py"}


@pytest.mark.parametrize("name", ["cohorts/a.yaml", "cohorts"], ids=["file", "folder"])
def test_a_relative_path_starts_at_the_folder_of_the_dag_file(
    folder: Folder, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder.cohorts("a.yaml", cohort_text("a"))
    folder.dag_file("my_cohorts.py", THREE_LINES.replace('Path(__file__).parent / "cohorts"', repr(name)))
    monkeypatch.chdir(tmp_path)

    assert sorted(folder.bag().dags) == ["kubit_braze__a"]


def test_an_absolute_path_may_be_text(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(cohort_text("a"))

    dags = load_cohort_dags(str(file), tags=["growth"], default_args={"retries": 0, "owner": "growth"})

    assert list(dags) == ["kubit_braze__a"]
    dag = dags["kubit_braze__a"]
    assert dag.tags == {"kubit-braze", "cohort:a", "growth"}
    assert {(one.retries, one.owner) for one in dag.tasks} == {(0, "growth")}
    assert task(dag, "import_to_braze").retry_delay == timedelta(seconds=30)


def test_strict_raises_every_problem_and_makes_no_import_errors(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(cohort_text("a", "colour: red"))
    (tmp_path / "b.yaml").write_text(cohort_text("B"))

    with pytest.raises(CohortFilesError) as raised:
        load_cohort_dags(tmp_path, strict=True)

    assert [error.cohort for error in raised.value.errors] == ["a", "B"]
    assert "field 'colour'" in str(raised.value)
    assert "'B' is not a cohort id" in str(raised.value)


def test_strict_is_silent_when_all_is_well(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(cohort_text("a"))

    assert list(load_cohort_dags(tmp_path, strict=True)) == ["kubit_braze__a"]


# -- a cohort that is defined wrongly ---------------------------------------------------------------------

BAD_DAY = cohort_text("bad", "schedule: {mode: monthly, on: 31, at: '09:00'}")


def test_a_bad_cohort_is_an_import_error_of_its_own_file_and_the_others_load(folder: Folder) -> None:
    folder.cohorts("good.yaml", cohort_text("good"))
    folder.cohorts("mixed.yaml", f"cohorts:\n- {json.dumps({'id': 'other'})}\n")
    bad = folder.cohorts("bad.yaml", BAD_DAY)

    bag = folder.bag()

    assert sorted(bag.dags) == ["kubit_braze__good"]
    assert sorted(bag.import_errors) == ["cohorts/bad.yaml", "cohorts/mixed.yaml"]
    assert bag.import_errors["cohorts/bad.yaml"] == (
        f"CohortConfigError: {bad}:4, cohort 'bad', field 'schedule.on': 31 is not a day every month has; "
        "write 1 to 28, or last."
    )
    assert "source" in bag.import_errors["cohorts/mixed.yaml"]
    assert "identifiers" in bag.import_errors["cohorts/mixed.yaml"]


def test_a_bag_without_a_bundle_names_the_whole_path(folder: Folder) -> None:
    bad = folder.cohorts("bad.yaml", BAD_DAY)

    assert list(DagBag(str(folder.path)).import_errors) == [str(bad.resolve())]


def test_a_good_neighbour_in_the_same_file_loads(folder: Folder) -> None:
    folder.cohorts(
        "two.yaml",
        "defaults: {identifiers: {external_id: U}}\n"
        "cohorts:\n- {id: good, source: {table: T}}\n- {id: bad, source: {table: T, sql: SELECT 1}}\n",
    )

    bag = folder.bag()

    assert sorted(bag.dags) == ["kubit_braze__good"]
    assert "cohort 'bad', field 'source'" in bag.import_errors["cohorts/two.yaml"]


def test_a_folder_that_is_not_there_is_an_import_error(folder: Folder) -> None:
    bag = folder.bag()

    assert bag.dags == {}
    [error] = bag.import_errors.values()
    assert "cohorts: it cannot be read" in error


def test_one_id_in_two_files_is_refused_naming_both_places(folder: Folder) -> None:
    first = folder.cohorts("one.yaml", cohort_text("twice"))
    second = folder.cohorts("two.yaml", cohort_text("twice"))
    folder.cohorts("good.yaml", cohort_text("good"))

    bag = folder.bag()

    assert sorted(bag.dags) == ["kubit_braze__good"]
    [error] = bag.import_errors.values()
    assert f"{first}:1" in error
    assert f"{second}:1" in error


IN_CODE = """
from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.factory import cohort_dag
def dag(**more):
    cohort_dag(Cohort(id="vip", source={"table": "T"}, identifiers={"external_id": "U"}, **more))
"""


def test_cohort_dag_twice_in_one_dag_file_is_refused(folder: Folder) -> None:
    folder.dag_file("my_cohorts.py", IN_CODE + "dag()\ndag()\n")

    bag = folder.bag()

    assert bag.dags == {}
    [(file, error)] = bag.import_errors.items()
    assert file == "my_cohorts.py"
    assert (
        "cohort 'vip', field 'id': a cohort 'vip' is also defined in the same DAG file, and a cohort has one live "
        "schedule; rename one of them, or remove it." in error
    )


def test_a_cohort_file_cannot_repeat_what_the_dag_file_defines(folder: Folder) -> None:
    folder.cohorts("vip.yaml", cohort_text("vip"))
    folder.cohorts("good.yaml", cohort_text("good"))
    folder.dag_file("my_cohorts.py", IN_CODE + "dag()\n" + THREE_LINES)

    bag = folder.bag()

    assert sorted(bag.dags) == ["kubit_braze__good", "kubit_braze__vip"]
    assert list(bag.import_errors) == ["cohorts/vip.yaml"]
    assert "is also defined in the same DAG file" in bag.import_errors["cohorts/vip.yaml"]


def test_reading_one_folder_twice_in_a_dag_file_names_the_first_place(folder: Folder) -> None:
    file = folder.cohorts("vip.yaml", cohort_text("vip"))
    folder.dag_file("my_cohorts.py", THREE_LINES + THREE_LINES)

    bag = folder.bag()

    assert sorted(bag.dags) == ["kubit_braze__vip"]
    assert f"is also defined in {file}:1" in bag.import_errors["cohorts/vip.yaml"]


def test_a_start_date_of_the_authors_is_refused() -> None:
    with pytest.raises(
        CohortConfigError, match="start_date, but a cohort's schedule begins with its next tick"
    ):
        cohort_dag(cohort(), default_args={"start_date": datetime(2024, 1, 1, tzinfo=UTC)})


def test_mail_without_the_smtp_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_kubit_braze.factory.find_spec", lambda name: None)

    with pytest.raises(
        CohortConfigError, match=r"cohort 'vip', field 'notify': .*\[email\]', or remove notify"
    ):
        cohort_dag(cohort())
    assert "notify" not in cohort_dag(cohort(notify=[])).task_dict


def test_broken_cohorts_outside_of_a_dag_bag_raise(folder: Folder) -> None:
    from airflow_provider_kubit_braze.broken import BrokenCohorts

    dag = BrokenCohorts(dag_id="broken", schedule=None)
    dag.kubit_braze_broken = ("f.yaml", (CohortConfigError("it is wrong", fix="right it"),))

    with pytest.raises(CohortFilesError, match="it is wrong; right it"):
        dag.validate()


# -- what the DAG processor keeps of it -------------------------------------------------------------------


class Processor:
    """Parses the folder's DAG file and writes what it found to the database, as Airflow's DAG processor does."""

    def __init__(self, folder: Folder) -> None:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.utils.session import create_session

        self.folder = folder
        with create_session() as session:
            manager: Any = DagBundlesManager
            manager().sync_bundles_to_db(session=session)

    def process(self) -> None:
        import structlog
        from airflow.dag_processing.collection import update_dag_parsing_results_in_db
        from airflow.dag_processing.processor import DagFileParseRequest, _parse_file
        from airflow.utils.session import create_session

        file = self.folder.path / "my_cohorts.py"
        request = DagFileParseRequest(file=str(file), bundle_path=self.folder.path, bundle_name="dags-folder")
        result = _parse_file(request, structlog.get_logger())
        assert result is not None
        errors = {("dags-folder", name): text for name, text in (result.import_errors or {}).items()}
        with create_session() as session:
            update_dag_parsing_results_in_db(
                "dags-folder",
                None,
                result.serialized_dags,
                errors,
                0.1,
                set(),
                session,
                files_parsed={("dags-folder", "my_cohorts.py"), *errors},
            )

    def refresh(self) -> None:
        """Forget the errors of files that are no DAG files, as a refresh of the bundle does."""
        from airflow.dag_processing.manager import DagFileProcessorManager

        manager = DagFileProcessorManager(max_runs=1)
        manager.clear_orphaned_import_errors(bundle_name="dags-folder", observed_filelocs={"my_cohorts.py"})

    def errors(self) -> dict[str, str]:
        from airflow.models.errors import ParseImportError
        from airflow.utils.session import create_session

        with create_session() as session:
            return {str(row.filename): str(row.stacktrace) for row in session.query(ParseImportError)}

    def marks(self) -> dict[str, tuple[bool, bool]]:
        """DAG to whether it has import errors, and whether it is stale."""
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session

        with create_session() as session:
            return {
                str(row.dag_id): (bool(row.has_import_errors), bool(row.is_stale))
                for row in session.query(DagModel).filter(DagModel.relative_fileloc == "my_cohorts.py")
            }


@pytest.mark.usefixtures("airflow_db")
def test_a_bad_cohort_does_not_take_its_neighbours_off_the_schedule(folder: Folder) -> None:
    folder.cohorts("good.yaml", cohort_text("neighbour_one"))
    folder.cohorts("more.yaml", cohort_text("neighbour_two"))
    bad = folder.cohorts("bad.yaml", BAD_DAY)
    processor = Processor(folder)

    for _ in range(2):
        processor.process()

    healthy = {"kubit_braze__neighbour_one": (False, False), "kubit_braze__neighbour_two": (False, False)}
    assert processor.marks() == healthy
    [(file, text)] = processor.errors().items()
    assert file == "cohorts/bad.yaml"
    assert "cohort 'bad', field 'schedule.on': 31" in text
    assert "write 1 to 28, or last" in text

    bad.write_text(BAD_DAY.replace("31", "28"))
    processor.process()
    processor.refresh()

    assert processor.marks() == {**healthy, "kubit_braze__bad": (False, False)}
    assert processor.errors() == {}


# -- the DAG ----------------------------------------------------------------------------------------------


def test_the_dag_waits_imports_and_tells() -> None:
    dag = cohort_dag(cohort())

    edges = {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks}
    assert edges == {"wait_for_cohort": ["import_to_braze"], "import_to_braze": ["notify"], "notify": []}
    assert dag.dag_id == "kubit_braze__vip"
    assert dag.dag_display_name == "Very | important"
    assert dag.description == "Snowflake to Braze · DB.S.VIP · Mondays 09:00, New York"
    assert dag.tags == {"kubit-braze", "cohort:vip"}
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert {one.retries for one in dag.tasks} == {2}


def test_with_shards_the_import_is_planned_delivered_in_parts_and_committed() -> None:
    dag = cohort_dag(cohort(shards=4))

    edges = {one.task_id: sorted(one.downstream_task_ids) for one in dag.tasks}
    assert edges == {
        "wait_for_cohort": ["plan_import"],
        "plan_import": ["deliver_shard"],
        "deliver_shard": ["import_to_braze"],
        "import_to_braze": ["notify"],
        "notify": [],
    }
    assert task(dag, "deliver_shard").is_mapped
    assert task(dag, "import_to_braze").trigger_rule == "all_done"
    assert [outlet.uri for outlet in task(dag, "import_to_braze").outlets] == [
        "braze://kubit_braze_default/cohort/vip"
    ]
    assert not task(dag, "plan_import").outlets


def test_notify_is_a_teardown_that_does_not_decide_the_run() -> None:
    notify = task(cohort_dag(cohort()), "notify")

    assert (notify.is_teardown, notify.on_failure_fail_dagrun) == (True, False)
    assert notify.trigger_rule == "all_done_setup_success" or notify.trigger_rule == "all_done"
    assert notify.recipients == ["growth@example.com", "ann@example.com"]
    assert (notify.cohort_id, notify.cohort_name) == ("vip", "Very | important")


@pytest.mark.parametrize("notify", [[], ()], ids=["empty", "absent"])
def test_without_recipients_there_is_no_notify(notify: Any) -> None:
    dag = cohort_dag(cohort(notify=notify))

    assert sorted(dag.task_dict) == ["import_to_braze", "wait_for_cohort"]


def test_the_trigger_form_offers_switches_that_are_off() -> None:
    params = cohort_dag(cohort()).params

    assert dict(params) == {
        "dry_run": False,
        "full_resync": False,
        "override_guards": False,
        "undo": False,
    }
    for name in params:
        schema = params.get_param(name).schema
        assert schema["type"] == "boolean"
        assert schema["title"]
        assert params.get_param(name).description


def test_the_documentation_says_what_where_and_whom() -> None:
    text = cohort_dag(cohort()).doc_md or ""

    assert text.startswith("### Very | important\n")
    for row in (
        "| Comes from | `DB.S.VIP` |",
        "| Schedule | Mondays 09:00, New York |",
        "| In Braze | custom attribute `kubit_cohort_vip` is `true` |",
        "| Connections | `snowflake_default`, `kubit_braze_default` |",
        "| Mail to | growth@example.com, ann@example.com |",
    ):
        assert row in text


def test_the_import_updates_the_cohorts_asset() -> None:
    [asset] = task(cohort_dag(cohort(braze={"conn_id": "braze_eu"})), "import_to_braze").outlets

    assert (asset.name, asset.uri) == ("braze_cohort_vip", "braze://braze_eu/cohort/vip")


@pytest.mark.parametrize(
    ("schedule", "as_of"),
    [
        ({"mode": "daily", "at": "09:00"}, "run"),
        ({"mode": "once"}, "now"),
        (None, "now"),
    ],
    ids=["daily", "once", "none"],
)
def test_the_sensor_waits_for_what_the_file_asks(schedule: dict[str, str] | None, as_of: str) -> None:
    sensor = task(cohort_dag(cohort(schedule=schedule)), "wait_for_cohort")

    assert (sensor.table, sensor.sql) == ("DB.S.VIP", None)
    assert (sensor.ready_column, sensor.within) == ("COMPUTED_AT", timedelta(hours=26))
    assert (sensor.min_members, sensor.as_of, sensor.cohort_id) == (0, as_of, "vip")
    assert sensor.mode == "reschedule"


def test_an_argument_of_the_sensor_can_be_set_through_default_args() -> None:
    dag = cohort_dag(cohort(), default_args={"timeout": 7, "mode": "poke", "poke_interval": 1})

    sensor = task(dag, "wait_for_cohort")
    assert (sensor.timeout, sensor.mode, sensor.poke_interval) == (7, "poke", 1)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '{{ ds }}' AS \"{% if %}\", '{# no #}' AS C FROM T",
        "SELECT '{% endraw %}{{ ds }}', '\\n', '\"' FROM T",
        "SELECT 'größer 👍 { }' FROM T\nWHERE A = 1",
        "SELECT U FROM db.files.sql",
        "SELECT 1",
    ],
    ids=["template", "endraw", "not ascii", "ends in .sql", "plain"],
)
def test_text_that_looks_like_a_template_is_left_alone(text: str, folder: Folder) -> None:
    dag: Any = cohort_dag(cohort(source={"sql": text}, name="{{ 1 + 1 }} {% raw %} big"))
    dag.resolve_template_files()

    for one in dag.tasks:
        one.render_template_fields({})

    assert task(dag, "wait_for_cohort").sql == text
    assert task(dag, "import_to_braze").cohort.source.sql == text
    assert task(dag, "notify").cohort_name == "{{ 1 + 1 }} {% raw %} big"


def test_criteria_are_waited_for_as_their_query_or_as_the_table_they_are_over() -> None:
    criteria = {"from": "A.B.EVENTS", "user": "USER_ID", "all": [{"did": "{{ ds }}"}]}
    dag: Any = cohort_dag(cohort(source={"criteria": criteria}))
    sensor = task(dag, "wait_for_cohort")
    sensor.render_template_fields({})
    assert (sensor.table, sensor.sql) == (None, task(dag, "import_to_braze").cohort.source.select)
    assert "'{{ ds }}'" in sensor.sql
    assert "criteria over `A.B.EVENTS`" in dag.doc_md

    fresh = {"criteria": criteria, "ready": {"column": "EVENT_TIME", "within": "26h"}}
    sensor = task(cohort_dag(cohort(source=fresh)), "wait_for_cohort")
    assert (sensor.table, sensor.sql, sensor.ready_column) == ("A.B.EVENTS", None, "EVENT_TIME")


def test_names_that_look_like_templates_are_left_alone() -> None:
    source = {"table": '"{{a}}".s.sql', "ready": {"column": '"{{c}}"', "within": "1h"}, "conn_id": "{{x}}"}
    dag: Any = cohort_dag(cohort(source=source, notify=["{{x}}@example.com"]))
    dag.resolve_template_files()

    for one in dag.tasks:
        one.render_template_fields({})

    sensor = task(dag, "wait_for_cohort")
    assert (sensor.table, sensor.ready_column) == ('"{{a}}".s.sql', '"{{c}}"')
    assert sensor.snowflake_conn_id == "{{x}}"
    assert task(dag, "notify").recipients == ["{{x}}@example.com"]


# -- parsing ----------------------------------------------------------------------------------------------

MANY = """
defaults: {source: {ready: {column: C, within: 26h}}, notify: [a@example.com, b@example.com]}
cohorts:
- {id: c1, source: {table: A.B.C}, identifiers: {external_id: U, email: E}, schedule: {mode: once}}
- {id: c2, source: {sql: "SELECT '{{ x }}' AS U"}, identifiers: {email: U}, guards: {max_added: 10},
   schedule: {mode: monthly, on: last, at: "09:00", timezone: Europe/Berlin}}
- {id: c3, source: {table: T}, identifiers: {user_alias: {label: l, name: N}}, braze: {conn_id: other},
   schedule: {mode: weekly, on: mon, at: "09:00"}}
- {id: c4, source: {table: T}, identifiers: {external_id: U}, notify: [], tags: wrong}
"""

PRINT_SERIALIZED = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization

bag = BundleDagBag(sys.argv[1], bundle_path=__import__("pathlib").Path(sys.argv[1]), bundle_name="dags-folder")
dags = {dag_id: DagSerialization.to_dict(bag.dags[dag_id]) for dag_id in sorted(bag.dags)}
heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(json.loads(sys.argv[2])))
connector = [name for name in sys.modules if name.startswith("snowflake.")]
print("RESULT" + json.dumps({"dags": dags, "errors": bag.import_errors, "heavy": heavy + connector}))
"""

HEAVY = [
    "aiohttp",
    "aiosmtpd",
    "duckdb",
    "fakesnow",
    "numpy",
    "orjson",
    "pandas",
    "pyarrow",
    "requests",
    "smtplib",
]


@pytest.fixture
def in_a_process_of_its_own(folder: Folder) -> Callable[[str], dict[str, Any]]:
    def parse(hash_seed: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_SERIALIZED, str(folder.path), json.dumps(HEAVY)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).resolve().parent.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
        found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
        return found

    return parse


def test_two_parses_give_the_same_dags_and_import_no_driver(
    folder: Folder, in_a_process_of_its_own: Callable[[str], dict[str, Any]]
) -> None:
    folder.cohorts("many.yaml", MANY)

    first, second = in_a_process_of_its_own("1"), in_a_process_of_its_own("4711")

    assert sorted(first["dags"]) == ["kubit_braze__c1", "kubit_braze__c2", "kubit_braze__c3"]
    assert first["dags"] == second["dags"]
    assert first["errors"] == second["errors"]
    assert list(first["errors"]) == ["cohorts/many.yaml"]
    assert first["heavy"] == []


def test_two_parses_in_one_process_give_the_same_dag(folder: Folder) -> None:
    folder.cohorts("many.yaml", MANY)

    first, second = (
        {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in folder.bag().dags.items()} for _ in range(2)
    )

    assert first == second
    assert len(first) == 3


def test_a_worker_builds_only_the_dag_of_its_task(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.cohorts("many.yaml", MANY)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "kubit_braze__c2")

    bag = folder.bag()

    assert list(bag.dags) == ["kubit_braze__c2"]
    assert bag.import_errors == {}


def test_a_worker_hears_what_is_wrong_with_the_cohort_of_its_task(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.cohorts("many.yaml", MANY)
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "kubit_braze__c4")

    bag = folder.bag()

    assert list(bag.dags) == []
    assert "cohort 'c4', field 'tags'" in bag.import_errors["cohorts/many.yaml"]


@pytest.mark.parametrize(("make", "name"), [(cohort_dag, "cohort_dag"), (impact_dag, "impact_dag")])
def test_a_mapping_is_a_cohort_too_and_anything_else_is_refused(make: Any, name: str) -> None:
    fields = {
        "id": "vip",
        "source": {"table": "T"},
        "identifiers": {"external_id": "U"},
        "impact": {"source": "S.P", "app_group_id": "growth"},
    }
    assert "cohort:vip" in make(fields).tags
    with pytest.raises(CohortConfigError, match=f"^{name} gets a cohort that is str; give a Cohort or a map"):
        make("vip")
    with pytest.raises(CohortConfigError, match=r"^cohort 'vip', field 'shard': unknown key"):
        make({**fields, "shard": 2})
