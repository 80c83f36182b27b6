"""What a user installs: the wheel and the sdist as built from the tracked files, and what Airflow sees of the wheel.

The wheel is installed, without extras, into an environment of its own, which is kept in .matrix for the next time.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import environments
import pytest
from private_airflow import CommandResult, PrivateAirflow

CHECKOUT = environments.CHECKOUT
CONSTRAINTS = CHECKOUT / "constraints.txt"

pytestmark = pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="what is packed is what git tracks")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (CHECKOUT / name).exists()}


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory) -> tuple[Path, Path]:
    """The sdist and the wheel of a tree that holds the tracked files and nothing else."""
    tree = tmp_path_factory.mktemp("tree")
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((CHECKOUT / name).read_bytes())
    return environments.build(tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def sdist(built) -> Path:
    return built[0]


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built[1]


@pytest.fixture(scope="module")
def installed(wheel) -> Path:
    """The Python of an environment with the wheel, what it requires, and no more."""
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    constraints = CONSTRAINTS.read_text(encoding="utf-8")
    return environments.make(environments.CACHE / "wheel", str(python), wheel, constraints)


@pytest.fixture(scope="module")
def airflow(installed, tmp_path_factory) -> PrivateAirflow:
    """The Airflow of that environment, with the examples; the checkout is not on its path."""
    examples = [file for file in (CHECKOUT / "dags_examples").glob("*.*") if file.name != "demo.py"]
    private = PrivateAirflow(tmp_path_factory.mktemp("airflow"), dags=examples, python=str(installed))
    private.env["PYTHONPATH"] = str(CHECKOUT / "tests" / "guard")
    return private


def contents(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def succeed(result: CommandResult) -> str:
    assert result.returncode == 0, result.output
    return result.output


def test_the_wheel_contains_exactly_the_tracked_files_of_the_package(wheel, tracked):
    package = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert package == {name for name in tracked if name.startswith("airflow_batch/")}
    assert {"airflow_batch/py.typed", "airflow_batch/sandbox/README.md"} <= package


def test_the_wheel_contains_its_license_and_fits_every_platform(wheel):
    (described,) = [text for name, text in contents(wheel).items() if name.endswith("/METADATA")]
    metadata = Parser().parsestr(described.decode())
    assert (metadata["Name"], metadata["License-Expression"]) == (environments.NAME, "Apache-2.0")
    assert any(name.endswith("/licenses/LICENSE") for name in contents(wheel))
    assert wheel.name.endswith("-py3-none-any.whl")


def test_the_sdist_contains_every_tracked_file_except_those_of_ci(sdist, tracked):
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert packed - {"PKG-INFO"} == {name for name in tracked if not name.startswith(".ci/")}


def test_the_sdist_builds_the_same_wheel(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    _, again = environments.build(tree, tmp_path / "dist")
    assert contents(again) == contents(wheel)


def test_twine_accepts_the_wheel_and_the_sdist(built):
    environments.run([sys.executable, "-m", "twine", "check", "--strict", *built])


def test_the_requirements_of_the_wheel_are_compatible(installed):
    environments.check(installed)


@pytest.mark.parametrize("extra", ["sandbox", "plot"])
def test_the_extras_of_the_wheel_can_be_installed(installed, wheel, extra):
    asked = f"{environments.NAME}[{extra}] @ {wheel.as_uri()}"
    environments.install(installed, "--dry-run", "--constraint", CONSTRAINTS, asked)


def test_airflow_imports_the_package_from_the_installed_wheel(installed, airflow):
    ask = [installed, "-c", "import airflow_batch; print(airflow_batch.__file__)"]
    place = subprocess.run(ask, env=airflow.env, cwd=airflow.home, capture_output=True, text=True, check=True).stdout
    assert installed.parents[1] in Path(place.strip()).parents


def test_airflow_lists_the_installed_provider_and_its_connection_type(airflow):
    assert "airflow_batch.hooks.batch.BatchHook" in succeed(airflow.command("providers", "hooks"))
    described = succeed(airflow.command("providers", "get", environments.NAME, "--full", "--output", "json"))
    assert environments.NAME in described
    assert "Company REST API key" in described


def test_every_example_can_be_imported_with_the_installed_wheel(installed, airflow):
    examples = sorted(airflow.dags.glob("*.py"))
    assert len(examples) > 5
    ask = [installed, "-c", "import runpy, sys\nfor file in sys.argv[1:]: runpy.run_path(file)", *examples]
    done = subprocess.run(ask, env=airflow.env, cwd=airflow.home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
