"""Fixtures for tests that want the sandbox; found by pytest through the entry point ``pytest11``.

Loading this costs nothing: the sandbox is imported when a test first asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kubit_braze.sandbox.manager import Sandbox


@pytest.fixture(scope="session")
def kubit_braze_sandbox() -> Iterator[Sandbox]:
    """The running sandbox, one for the whole session, with the environment of this process pointing at it."""
    from airflow_provider_kubit_braze.sandbox.manager import Sandbox

    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        for name, value in sandbox.env().items():
            patch.setenv(name, value)
        yield sandbox


@pytest.fixture
def kubit_braze_clean_sandbox(kubit_braze_sandbox: Sandbox) -> Sandbox:
    """The running sandbox with an empty Braze, an empty mailbox and any Snowflake password accepted.

    Tables stay: give each test a schema of its own.
    """
    kubit_braze_sandbox.braze.reset()
    kubit_braze_sandbox.mailbox.clear()
    kubit_braze_sandbox.snowflake.require_password(None)
    return kubit_braze_sandbox
