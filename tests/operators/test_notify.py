from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kubit_braze.core.readiness import REASON_KEY
from airflow_provider_kubit_braze.core.report import ImportResult
from airflow_provider_kubit_braze.notifications import run_end
from airflow_provider_kubit_braze.operators import notify
from airflow_provider_kubit_braze.operators.notify import NotifyImportOperator

if TYPE_CHECKING:
    from airflow_provider_kubit_braze.core.mail import Mail

DAG_ID = "kubit_braze__vip"
RUN_ID = "manual__2026-11-23T14:00:00+00:00"
RESULT = ImportResult(
    cohort_id="vip", cohort_name="VIP", run_id=RUN_ID, outcome="success", added=1204, removed=87
).to_dict()


class Outbox:
    """Takes the mails in place of the SMTP server (tests/notifications has a real one)."""

    def __init__(self) -> None:
        self.sent: list[tuple[Mail, dict[str, Any]]] = []

    def __call__(self, mail: Mail, **how: Any) -> tuple[str, ...]:
        self.sent.append((mail, how))
        return tuple(how["recipients"])

    @property
    def mail(self) -> Mail:
        [(mail, _)] = self.sent
        return mail


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    outbox = Outbox()
    monkeypatch.setattr(notify, "send_mail", outbox)
    return outbox


class StubTask:
    """The notify task as it runs: only what Airflow 2.11 and 3.x both have."""

    dag_id = DAG_ID
    run_id = RUN_ID
    task_id = "notify"
    log_url = (
        f"https://airflow.example.com/dags/{DAG_ID}/grid?dag_run_id=r&task_id=notify&base_date=x&tab=logs"
    )

    def __init__(self, xcoms: dict[tuple[str, str], object]) -> None:
        self.xcoms = xcoms

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> object:
        return self.xcoms.get((task_ids, key))


class StubTask3(StubTask):
    """With what only Airflow 3 has."""

    log_url = f"https://airflow.example.com/dags/{DAG_ID}/runs/r/tasks/notify?try_number=1"

    def __init__(self, xcoms: dict[tuple[str, str], object], states: dict[str, str | None]) -> None:
        super().__init__(xcoms)
        self.states = states

    def get_task_states(
        self, dag_id: str, task_ids: list[str], run_ids: list[str]
    ) -> dict[str, dict[str, str | None]]:
        assert dag_id == DAG_ID
        assert run_ids == [RUN_ID]
        found = {task_id: self.states[task_id] for task_id in task_ids if task_id in self.states}
        return {RUN_ID: found} if found else {}


@pytest.fixture(params=["2.11", "3.x"])
def run(request: pytest.FixtureRequest) -> Any:
    """Run the operator at the end of a run with these states and XComs, and no logical date."""

    def execute(
        operator: NotifyImportOperator,
        states: dict[str, str | None],
        xcoms: dict[tuple[str, str], object] | None = None,
    ) -> None:
        if request.param == "3.x":
            task: StubTask = StubTask3(xcoms or {}, states)
            dag_run = SimpleNamespace(run_id=RUN_ID)
        else:
            task = StubTask(xcoms or {})
            others = [SimpleNamespace(task_id=name, state=state) for name, state in states.items()]
            dag_run = SimpleNamespace(run_id=RUN_ID, get_task_instances=lambda: others)
        operator.execute({"ti": task, "dag_run": dag_run})  # type: ignore[typeddict-item]

    return execute


def operator(**arguments: Any) -> NotifyImportOperator:
    return NotifyImportOperator(
        **{"recipients": ["ann@example.com"], "cohort_id": "vip", "cohort_name": "VIP customers", **arguments}
    )


DONE = {"wait_for_cohort": "success", "import_to_braze": "success", "notify": "running"}


def test_the_imports_own_figures_are_mailed(outbox: Outbox, run: Any) -> None:
    run(operator(smtp_conn_id="marketing"), DONE, {("import_to_braze", "return_value"): RESULT})

    assert outbox.mail.subject == "[Kubit → Braze] VIP: 1,204 added, 87 removed"
    assert RUN_ID in outbox.mail.text
    assert outbox.sent[0][1] == {"recipients": ["ann@example.com"], "smtp_conn_id": "marketing"}


def test_a_result_of_another_run_is_never_told(outbox: Outbox, run: Any) -> None:
    stale = {**RESULT, "run_id": "manual__earlier"}

    run(operator(), {**DONE, "import_to_braze": "failed"}, {("import_to_braze", "return_value"): stale})

    assert outbox.mail.subject == "[Kubit → Braze] VIP customers: failed"
    assert "1,204" not in outbox.mail.text


def test_what_the_sensor_waited_for_is_told(outbox: Outbox, run: Any) -> None:
    run(
        operator(),
        {"wait_for_cohort": "failed", "import_to_braze": "upstream_failed"},
        {("wait_for_cohort", REASON_KEY): "COMPUTED_AT is 31 h old, waiting for 26 h"},
    )

    assert outbox.mail.subject == "[Kubit → Braze] VIP customers: failed while waiting for the cohort"
    assert "COMPUTED_AT is 31 h old, waiting for 26 h" in outbox.mail.text


def test_a_reason_from_before_the_cohort_became_ready_is_not_told(outbox: Outbox, run: Any) -> None:
    run(
        operator(),
        {**DONE, "import_to_braze": "failed"},
        {("wait_for_cohort", REASON_KEY): "COMPUTED_AT is 31 h old, waiting for 26 h"},
    )

    assert "31 h" not in outbox.mail.text


@pytest.mark.parametrize(
    ("states", "task_id"),
    [(DONE, "import_to_braze"), ({**DONE, "wait_for_cohort": "failed"}, "wait_for_cohort")],
    ids=["import", "sensor"],
)
def test_the_link_leads_to_the_task_that_matters(
    outbox: Outbox, run: Any, states: dict[str, str | None], task_id: str
) -> None:
    run(operator(), states)

    label = "Open the run in Airflow: "
    [link] = [line for line in outbox.mail.text.splitlines() if line.startswith(label)]
    assert link.removeprefix(label) in (
        f"https://airflow.example.com/dags/{DAG_ID}/runs/r/tasks/{task_id}",
        f"https://airflow.example.com/dags/{DAG_ID}/grid?dag_run_id=r&task_id={task_id}&base_date=x&tab=logs",
    )


def test_the_mail_leads_to_the_page_with_the_cohorts_history(outbox: Outbox, run: Any) -> None:
    run(operator(), DONE)

    assert (
        "History of the cohort: https://airflow.example.com/plugin/kubit-braze#/cohort/vip"
        in outbox.mail.text
    )


def test_before_airflow_3_1_there_is_no_page_to_lead_to(
    outbox: Outbox, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_end, "AIRFLOW_V_3_1_PLUS", False)

    run(operator(), DONE)

    assert "kubit-braze" not in outbox.mail.text


@pytest.mark.parametrize(
    ("state", "result", "mails"),
    [
        ("success", RESULT, 1),
        ("success", {**RESULT, "outcome": "unchanged", "added": 0, "removed": 0}, 0),
        ("failed", None, 1),
    ],
    ids=["changed", "unchanged", "failed"],
)
def test_only_the_ends_that_are_wanted_are_mailed(
    outbox: Outbox, run: Any, state: str, result: object, mails: int
) -> None:
    run(
        operator(when="change"),
        {**DONE, "import_to_braze": state},
        {("import_to_braze", "return_value"): result},
    )

    assert len(outbox.sent) == mails


def test_ends_that_do_not_exist_are_refused_while_the_dag_is_parsed() -> None:
    with pytest.raises(
        ValueError, match="when is 'sometimes'; write one of always, success, change, failure"
    ):
        operator(when="sometimes")


def test_other_task_ids_and_no_sensor_are_fine(outbox: Outbox, run: Any) -> None:
    result = {("load", "return_value"): RESULT}

    run(operator(import_task_id="load", wait_task_id=None), {"load": "success"}, result)

    assert outbox.mail.subject.endswith("1,204 added, 87 removed")


def test_a_task_without_a_state_is_told_as_not_run(outbox: Outbox, run: Any) -> None:
    run(operator(cohort_name=None), {"wait_for_cohort": None, "import_to_braze": None})

    assert outbox.mail.subject == "[Kubit → Braze] vip: ended without figures"
    assert "import_to_braze did not run" in outbox.mail.text


def test_a_mail_that_cannot_be_sent_fails_the_task_visibly(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    def refuse(mail: Mail, **how: Any) -> tuple[str, ...]:
        raise ConnectionRefusedError("no mail server")

    monkeypatch.setattr(notify, "send_mail", refuse)

    with pytest.raises(ConnectionRefusedError):
        run(operator(), DONE, {("import_to_braze", "return_value"): RESULT})


def test_the_arguments_are_templates_and_the_task_id_has_a_default() -> None:
    notifier = operator(recipients=["{{ params.who }}"], cohort_id="{{ params.cohort }}", cohort_name=None)

    notifier.render_template_fields({"params": {"who": "ann@example.com", "cohort": "vip"}})

    assert notifier.task_id == "notify"
    assert (notifier.recipients, notifier.cohort_id) == (["ann@example.com"], "vip")


def test_as_a_teardown_it_does_not_change_how_the_run_ends() -> None:
    teardown = operator().as_teardown()

    assert teardown.is_teardown is True
    assert teardown.on_failure_fail_dagrun is False
