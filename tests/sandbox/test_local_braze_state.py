"""The workspace by itself, without a server."""

from __future__ import annotations

from airflow_provider_kubit_braze.sandbox.braze_rules import judge
from airflow_provider_kubit_braze.sandbox.braze_settings import WorkspaceSettings
from airflow_provider_kubit_braze.sandbox.braze_state import Workspace


def test_the_next_change_is_due_when_the_oldest_one_is() -> None:
    now = [1000.0]
    workspace = Workspace(settings=WorkspaceSettings(apply_delay=5.0), clock=lambda: now[0])

    def queue() -> tuple[float | None, int]:
        return workspace.next_due, workspace.pending

    assert queue() == (None, 0)
    for now[0] in (1000.0, 1002.0):
        workspace.accept(judge({"attributes": [{"external_id": "u", "in": True}]}, refused={}))
    assert queue() == (1005.0, 2)

    now[0] = 1005.0
    workspace.apply_due()
    assert queue() == (1007.0, 1)
