"""The package's modules: which import which, how long they are, and what is public."""

from __future__ import annotations

import ast
import importlib
import inspect
import warnings
from pathlib import Path

import pytest

import airflow_batch

PACKAGE = Path(airflow_batch.__file__).parent
LAYERS = (
    ("__init__", "get_provider_info"),
    ("_airflow.compat",),
    ("exceptions",),
    ("_values",),
    ("_airflow",),
    ("_http",),
    ("_campaigns",),
    ("_sync",),
    ("results",),
    ("policies",),
    ("hooks",),
    ("windows",),
    ("timetables",),
    ("calendars",),
    ("triggers",),
    ("sensors", "notifications", "operators"),
    ("calendar_dag",),
)
"""From the lowest: a module imports only from its own layer and those before it."""
DEPRECATED = {
    *("_moved", "payloads", "wanted", "looks", "operators.base", "sensors.base"),
    *("hooks.settings", "hooks.transport", "hooks.answers"),
}
"""Old paths, which work for one more release."""
PUBLIC = {
    "operators.campaigns": {
        *("BatchSetCampaignLiveOperator", "BatchUpdateCampaignOperator", "BatchCreateCampaignOperator"),
        *("BatchDeleteCampaignOperator", "BatchGetCampaignStatsOperator"),
    },
    "operators.sync": {"BatchSyncCampaignsOperator"},
    "sensors.campaigns": {"BatchCampaignLiveSensor", "BatchCampaignStatsSensor"},
    "notifications.campaigns": {"SetCampaignLiveNotifier"},
    "triggers.campaigns": {"BatchCampaignTrigger"},
    "hooks.batch": {"BatchHook"},
    "policies.retry": {"BatchRetryPolicy", "retry_defaults"},
    "windows": {"CampaignWindow"},
    "timetables.calendars": {"CalendarTimetable"},
    "calendars": {"read_calendar", "CampaignCalendar", "CalendarCampaign", "LiveWindows"},
    "calendar_dag": {"campaign_calendar_dag"},
    "results": {"CampaignResult", "CampaignSummary"},
    "sandbox": {"BatchSandbox"},
    "sandbox.pytest_plugin": {"batch_sandbox"},
}
"""What users import. ``exceptions`` has its own test."""
MAX_LINES, MAX_FUNCTION_LINES, MAX_ROOT_MODULES = 400, 50, 7


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    name_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "sandbox" not in path.parts and name_of(path) not in DEPRECATED
}


def layer_of(module: str) -> int:
    parts = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    return parts[max((part for part in parts if f"{module}.".startswith(f"{part}.")), key=len)]


def imported(path: Path) -> set[str]:
    """Return the modules of the package that a module imports, also within functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "airflow_batch":
            parent = (node.module or "").removeprefix("airflow_batch").removeprefix(".")
            found |= {
                f"{parent}.{alias.name}".strip(".") if f"{parent}.{alias.name}".strip(".") in MODULES else parent
                for alias in node.names
            }
    return {name or "__init__" for name in found}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_a_module_imports_only_from_its_own_layer_and_lower_ones(module):
    above = {other for other in imported(MODULES[module]) if layer_of(other) > layer_of(module)}
    assert above == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "sandbox").glob("*.py")), ids=lambda path: path.stem)
def test_the_sandbox_imports_nothing_else_of_the_package(path):
    assert {name for name in imported(path) if name.split(".")[0] != "sandbox"} <= {"__init__"}


def test_nothing_imports_the_sandbox():
    assert [name for name, path in MODULES.items() if any(x.startswith("sandbox") for x in imported(path))] == []


def test_few_modules_stand_at_the_root():
    root = [name for name in MODULES if (PACKAGE / f"{name}.py").exists() and "." not in name]
    assert len(root) <= MAX_ROOT_MODULES, root


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name_of)
def test_no_module_and_no_function_is_too_long_to_read(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) else None
            lines = (node.end_lineno or 0) - node.lineno + 1
            if documented is not None:
                lines -= (documented.end_lineno or 0) - documented.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_stay_where_they_are(module):
    found = importlib.import_module(f"airflow_batch.{module}")
    for name in PUBLIC[module]:
        assert hasattr(found, name)


@pytest.mark.parametrize(
    "module", [name for name in PUBLIC if name.startswith(("operators", "sensors", "notifications"))]
)
def test_every_class_that_a_dag_author_may_import_is_in_the_list(module):
    found = importlib.import_module(f"airflow_batch.{module}")
    own = {name for name, value in vars(found).items() if inspect.isclass(value) and value.__module__ == found.__name__}
    assert {name for name in own if not name.startswith("_")} == PUBLIC[module]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("payloads", "check_payload"),
        ("payloads", "shown"),
        ("wanted", "read_wanted"),
        ("looks", "Look"),
        ("operators.base", "BatchOperator"),
        ("sensors.base", "BatchSensor"),
        ("hooks.settings", "BatchSettings"),
        ("hooks.transport", "BatchSession"),
        ("hooks.answers", "Endpoint"),
    ],
)
def test_an_old_path_works_with_a_deprecation_warning(module, name):
    old = importlib.import_module(f"airflow_batch.{module}")
    with pytest.warns(DeprecationWarning, match=f"airflow_batch.{module}.{name} is deprecated"):
        assert getattr(old, name) is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not hasattr(old, "nothing")
