"""The modules of the package: their imports, their length, and the public names."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
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
    ("_export",),
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
    "operators.approval": {"BatchCampaignApprovalOperator"},
    "operators.sync": {"BatchSyncCampaignsOperator"},
    "operators.export": {"BatchExportCampaignsOperator"},
    "sensors.campaigns": {"BatchCampaignLiveSensor", "BatchCampaignStatsSensor"},
    "notifications.campaigns": {"SetCampaignLiveNotifier"},
    "triggers.campaigns": {"BatchCampaignTrigger"},
    "triggers.events": {"BatchCampaignEventTrigger"},
    "hooks.batch": {"BatchHook"},
    "policies.retry": {"BatchRetryPolicy", "retry_defaults"},
    "windows": {"CampaignWindow"},
    "timetables.calendars": {"CalendarTimetable"},
    "calendars": {"read_calendar", "CampaignCalendar", "CalendarCampaign", "LiveWindows"},
    "calendar_dag": {"campaign_calendar_dag"},
    "results": {"ApprovedCampaign", "CampaignResult", "CampaignSummary"},
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


def test_a_module_imports_only_from_its_own_layer_and_lower_ones():
    above = {
        module: higher
        for module, path in MODULES.items()
        if module != "__init__"
        and (higher := {other for other in imported(path) if layer_of(other) > layer_of(module)})
    }
    assert above == {}


def test_the_sandbox_imports_neither_airflow_nor_the_rest_of_the_package_and_nothing_imports_the_sandbox():
    for path in (PACKAGE / "sandbox").glob("*.py"):
        assert {name for name in imported(path) if name.split(".")[0] != "sandbox"} <= {"__init__"}, path
        assert not re.search(r"^\s*(?:from|import) airflow\b", path.read_text(encoding="utf-8"), re.M), path
    assert [name for name, path in MODULES.items() if any(x.startswith("sandbox") for x in imported(path))] == []


def test_the_root_of_the_package_has_few_modules():
    root = [name for name in MODULES if (PACKAGE / f"{name}.py").exists() and "." not in name]
    assert len(root) <= MAX_ROOT_MODULES, root


def too_long(path: Path) -> list[str]:
    """Return what is too long in a module: the module, or its functions without their docstrings."""
    text = path.read_text(encoding="utf-8")
    found = ["the module"] if len(text.splitlines()) > MAX_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) else None
            lines = (node.end_lineno or 0) - node.lineno + 1
            if documented is not None:
                lines -= (documented.end_lineno or 0) - documented.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                found.append(node.name)
    return found


def test_no_module_and_no_function_is_too_long():
    assert {name_of(path): found for path in PACKAGE.rglob("*.py") if (found := too_long(path))} == {}


def test_the_public_names_stay_where_they_are():
    for module, names in PUBLIC.items():
        found = importlib.import_module(f"airflow_batch.{module}")
        assert [name for name in names if not hasattr(found, name)] == [], module
        if module.startswith(("operators", "sensors", "notifications")):
            own = {name for name, value in vars(found).items() if getattr(value, "__module__", "") == found.__name__}
            classes = {name for name in own if inspect.isclass(vars(found)[name]) and not name.startswith("_")}
            assert classes == names, module


def test_the_reference_of_the_site_has_every_public_name():
    """The module is read rather than imported, because it needs the site's builder."""
    site = ast.parse((Path(__file__).parents[2] / "docs" / "_site" / "hooks.py").read_text(encoding="utf-8"))
    (pages,) = [
        node.value for node in site.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REFERENCE"
    ]
    shown = {name for names in eval(compile(ast.Expression(pages), "hooks.py", "eval")).values() for name in names}
    public = {f"airflow_batch.{module}.{name}" for module, names in PUBLIC.items() for name in names}
    assert {name for name in public if ".sandbox." not in name} - shown == set()


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
