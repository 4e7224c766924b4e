"""What `pip install ./client` takes along, and that it needs nothing which it does not name."""

import ast
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from flit_core import buildapi  # type: ignore[import-untyped]
from packaging.requirements import Requirement

CLIENT = Path(__file__).resolve().parents[2] / "client"
MODULES = sorted((CLIENT / "src" / "seatkeeper").rglob("*.py"))
IMPORTED_AS = {"aiohttp-socks": "aiohttp_socks", "py-machineid": "machineid"}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to build in, as a checkout has it."""
    copy = tmp_path / "client"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(copy)
    return copy


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_client_whole_and_nothing_else(client: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / buildapi.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        about = metadata(wheel)
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "seatkeeper=seatkeeper.command.__main__:main" in wheel.read(entry_points).decode()
    ours = {str(path.relative_to(client / "src")) for path in client.glob("src/**/*") if path.is_file()}
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert {name.split("/")[0].split("-")[0] for name in names} == {"seatkeeper"}
    assert {"seatkeeper/py.typed", "seatkeeper/texts/states_en.py", "seatkeeper/texts/states_zh.py"} <= ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert about["Requires-Python"] == ">=3.11"
    assert "# Seatkeeper's client" in about.get_payload()


def test_the_source_distribution_builds_the_same_wheel(
    client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = zipfile.ZipFile(tmp_path / buildapi.build_wheel(str(tmp_path)))
    with tarfile.open(tmp_path / buildapi.build_sdist(str(tmp_path))) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    monkeypatch.chdir(folder)
    (tmp_path / "second").mkdir()
    second = zipfile.ZipFile(tmp_path / "second" / buildapi.build_wheel(str(tmp_path / "second")))
    assert {name: direct.read(name) for name in direct.namelist()} == {
        name: second.read(name) for name in second.namelist()
    }


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def test_each_module_imports_only_what_the_package_names(client: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / buildapi.build_wheel(str(tmp_path))) as wheel:
        needed = [Requirement(text) for text in metadata(wheel).get_all("Requires-Dist", [])]
    always = {IMPORTED_AS.get(one.name, one.name) for one in needed if one.marker is None}
    extra = {one.name for one in needed if one.marker is not None}
    assert extra == {"rich", "typer"}
    for path in MODULES:
        outside = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"seatkeeper"}
        allowed = always | extra if "command" in path.relative_to(CLIENT).parts else always
        assert outside <= allowed, path


def test_the_sdk_itself_never_loads_the_command() -> None:
    for path in MODULES:
        if "command" not in path.relative_to(CLIENT).parts:
            assert not {name for name in imported(path) if name.startswith("seatkeeper.command")}, path
