"""What Airflow reads of the provider, and which modules importing it loads."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import airflow
import pytest
import yaml

from airflow_batch.get_provider_info import get_provider_info
from airflow_batch.hooks.batch import BatchHook

jsonschema = pytest.importorskip("jsonschema")


def test_the_provider_info_fits_airflows_schema():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_package_name_is_that_of_the_distribution():
    # Otherwise `airflow providers list` dies with a ValueError.
    assert get_provider_info()["package-name"] == distribution("airflow-provider-batch").metadata["Name"]


def test_the_entry_point_returns_the_provider_info():
    (entry,) = [e for e in entry_points(group="apache_airflow_provider") if e.value.startswith("airflow_batch.")]
    assert entry.load()() == get_provider_info()


def test_every_module_and_class_of_the_provider_info_exists():
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors"):
        for group in info[kind]:
            for module in group["python-modules"]:
                importlib.import_module(module)
    (connection,) = info["connection-types"]
    module, _, name = connection["hook-class-name"].rpartition(".")
    assert getattr(importlib.import_module(module), name) is BatchHook
    assert connection["connection-type"] == BatchHook.conn_type
    assert connection["hook-name"] == BatchHook.hook_name


def test_the_registry_file_lists_every_public_class_but_base_classes():
    shown = yaml.safe_load((Path(__file__).parents[2] / ".airflow-registry.yaml").read_text())
    assert shown["package-name"] == get_provider_info()["package-name"]
    listed = {entry["module"] for entries in shown.values() if isinstance(entries, list) for entry in entries}
    for dotted in listed:
        module, _, name = dotted.rpartition(".")
        assert getattr(importlib.import_module(module), name).__module__ == module
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for module in (module for group in info[kind] for module in group["python-modules"]):
            own = [thing for thing in vars(importlib.import_module(module)).values() if isinstance(thing, type)]
            public = {
                f"{module}.{thing.__name__}"
                for thing in own
                if thing.__module__ == module
                and thing.__name__.startswith("Batch")
                and not any(thing in other.__bases__ for other in own)
            }
            assert public <= listed


def test_the_form_fields_of_the_hook_are_valid_by_the_schema_of_airflow_3_1():
    schema = json.loads((Path(airflow.__file__).parent / "customized_form_field_behaviours.schema.json").read_text())
    behaviour = BatchHook.get_ui_field_behaviour()
    jsonschema.validate(behaviour, schema)
    assert behaviour["relabeling"]["password"] == "Company REST API key"
    assert behaviour["hidden_fields"] == ["schema"]


LISTING = """
import sys
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
before = set(sys.modules)
import airflow_batch.operators.campaigns, airflow_batch.sensors.campaigns, airflow_batch.hooks.batch
print(*sorted(set(sys.modules) - before))
"""


def test_parsing_a_dag_loads_few_modules_and_no_http_library():
    loaded = (
        subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True, check=True, timeout=60)
        .stdout.splitlines()[-1]
        .split()
    )
    assert "airflow_batch.hooks.batch" in loaded
    assert len(loaded) <= 45
    assert not {name.partition(".")[0] for name in loaded} & {"requests", "urllib3", "httpx", "aiohttp"}


def test_get_provider_info_imports_nothing_of_airflow():
    code = "import sys, airflow_batch.get_provider_info; print(*[n for n in sys.modules if n.startswith('airflow.')])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert output.stdout.strip() == ""
