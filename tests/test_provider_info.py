from __future__ import annotations

import importlib.metadata
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import airflow
import pytest

from airflow_provider_kubit_braze import _compat
from airflow_provider_kubit_braze.core.braze_settings import EXTRAS
from airflow_provider_kubit_braze.get_provider_info import get_provider_info
from airflow_provider_kubit_braze.hooks.braze import BrazeHook

AIRFLOW = Path(airflow.__file__).parent
INFO = get_provider_info()
jsonschema: Any = import_module("jsonschema")  # it has no types


def schema(name: str) -> dict[str, Any]:
    path = AIRFLOW / name
    if not path.exists():
        pytest.skip(f"this Airflow ships no {name}")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_airflow_accepts_the_description() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_the_schema_of_airflow_can_refuse() -> None:
    broken = {key: value for key, value in INFO.items() if key != "description"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema("provider_info.schema.json"))


def test_the_form_follows_airflows_schema_of_connection_types() -> None:
    connection_types = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    if "conn-fields" not in connection_types["items"]["properties"]:
        pytest.skip("this Airflow does not know conn-fields")
    jsonschema.validate(INFO["connection-types"], connection_types)
    broken = [{**INFO["connection-types"][0], "conn-fields": {"x": {"description": "no label, no schema"}}}]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, connection_types)


def test_the_name_is_the_distributions_name_without_which_airflow_does_not_start() -> None:
    assert INFO["package-name"] == "airflow-provider-kubit-braze"
    try:
        distribution = importlib.metadata.distribution("airflow-provider-kubit-braze")
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("the package is not installed: make setup installs it")
    assert distribution.metadata["Name"] == INFO["package-name"]
    (entry,) = distribution.entry_points.select(group="apache_airflow_provider")
    assert entry.name == "provider_info"
    assert entry.load() is get_provider_info


def test_the_form_has_every_extra_that_is_read_and_no_other() -> None:
    (connection_type,) = INFO["connection-types"]
    assert set(connection_type["conn-fields"]) == set(EXTRAS)


def test_secrets_are_boxes_of_stars_with_names_that_airflow_masks() -> None:
    fields = INFO["connection-types"][0]["conn-fields"]
    secrets = {name for name, field in fields.items() if field["schema"].get("format") == "password"}
    assert secrets == {"client_secret", "partner_api_key"}
    masker = import_module(
        "airflow.sdk._shared.secrets_masker"
        if _compat.AIRFLOW_V_3_0_PLUS
        else "airflow.utils.log.secrets_masker"
    )
    assert all(masker.should_hide_value_for_key(name) for name in secrets)


def test_the_form_stores_no_default() -> None:
    fields = INFO["connection-types"][0]["conn-fields"]
    assert not [name for name, field in fields.items() if "default" in field["schema"]]


def test_the_hook_says_the_same_as_the_description() -> None:
    (connection_type,) = INFO["connection-types"]
    assert connection_type["connection-type"] == BrazeHook.conn_type
    assert connection_type["hook-name"] == BrazeHook.hook_name
    module, _, name = connection_type["hook-class-name"].rpartition(".")
    assert getattr(import_module(module), name) is BrazeHook


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        ("hooks", {"BrazeHook"}),
        (
            "operators",
            {"CohortToBrazeOperator", "TriggerCohortCampaignOperator", "TriggerCohortCanvasOperator"},
        ),
        ("sensors", {"SnowflakeCohortSensor"}),
        ("triggers", {"SnowflakeCohortTrigger"}),
    ],
)
def test_every_listed_module_holds_its_class(kind: str, classes: set[str]) -> None:
    modules = [import_module(module) for entry in INFO[kind] for module in entry["python-modules"]]
    own = {
        name
        for module in modules
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__
    }
    assert classes <= own


def test_no_key_is_listed_that_airflow_ignores() -> None:
    assert "plugins" not in INFO, "Airflow reads plugins from the entry point airflow.plugins"


def test_the_state_schema_has_its_default() -> None:
    option = INFO["config"]["kubit_braze"]["options"]["state_schema"]
    assert option["default"] == "KUBIT_BRAZE"
    assert {"description", "version_added", "type", "example", "default"} <= option.keys()


@pytest.mark.parametrize("key", ["asset-uris", "dataset-uris"])
def test_the_handler_of_braze_uris_is_there(key: str) -> None:
    (entry,) = INFO[key]
    module, _, name = entry["handler"].rpartition(".")
    assert entry["schemes"] == ["braze"]
    assert callable(getattr(import_module(module), name))


def test_airflow_lists_the_provider_when_it_is_installed() -> None:
    try:
        importlib.metadata.distribution("airflow-provider-kubit-braze")
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("the package is not installed: make setup installs it")
    manager = import_module("airflow.providers_manager").ProvidersManager()
    assert manager.hooks["kubit_braze"].hook_class_name.endswith("hooks.braze.BrazeHook")
    shown = {name for name in manager.connection_form_widgets if name.startswith("extra__kubit_braze__")}
    assert shown == {f"extra__kubit_braze__{name}" for name in EXTRAS}
    assert manager.field_behaviours["kubit_braze"]["relabeling"]["password"] == "REST API key"
    configured = import_module("airflow.configuration").conf
    assert configured.get("kubit_braze", "state_schema") == "KUBIT_BRAZE"


def test_reading_the_description_imports_neither_airflow_nor_a_library() -> None:
    script = (
        "import sys; from airflow_provider_kubit_braze.get_provider_info import get_provider_info;"
        "get_provider_info(); print([m for m in ('airflow', 'pydantic', 'requests') if m in sys.modules])"
    )
    package = Path(inspect.getfile(get_provider_info)).parent.parent
    # -S: no site-packages, whose .pth files may import anything.
    command = [sys.executable, "-S", "-c", script]
    printed = subprocess.run(command, cwd=package, capture_output=True, check=True, text=True)
    assert printed.stdout.strip() == "[]"
