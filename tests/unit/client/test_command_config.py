"""The command's settings: where each comes from, and every fault at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seatkeeper.command.config import NAMES, Settings, examine, faults, load
from seatkeeper.command.config_file import read_file, write_file
from seatkeeper.command.failures import failure_of
from seatkeeper.command.languages import language_of_line
from seatkeeper.errors import ConfigurationError

ROOT = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
KEY = "an imported key of 16 or more"
GOOD = f"""url = "https://licenses.example.com/"
product = "app"
license_key = "{KEY}"
root_key = "{ROOT}"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "config.toml"
    written.write_text(GOOD)
    return written


def test_the_file_is_read(file: Path) -> None:
    settings = load(file, {})
    assert (settings.url, settings.product, settings.root_key) == ("https://licenses.example.com", "app", ROOT)
    assert settings.license_key == KEY
    assert KEY not in repr(settings)


def test_the_environment_goes_over_the_file_and_options_over_both(file: Path) -> None:
    environ = {"SEATKEEPER_PRODUCT": "from environ", "SEATKEEPER_NAME": "from environ", "SEATKEEPER_VERSION": ""}
    settings = load(file, environ, {"name": "from the line", "version": None})
    assert (settings.product, settings.name, settings.version) == ("from environ", "from the line", None)


def test_the_usual_file_is_the_environments(file: Path) -> None:
    assert load(environ={"SEATKEEPER_CONFIG": str(file)}).product == "app"
    assert load(environ={"SEATKEEPER_HOME": str(file.parent)}).product == "app"
    assert load(environ={"SEATKEEPER_HOME": str(file.parent / "nothing")}) == Settings()


def test_a_token_that_is_given_nearer_drops_the_key(file: Path) -> None:
    settings = load(file, {"SEATKEEPER_TOKEN": "a token"})
    assert (settings.token, settings.license_key) == ("a token", None)
    settings = load(file, {"SEATKEEPER_TOKEN": "a token"}, {"license_key": KEY})
    assert (settings.token, settings.license_key) == (None, KEY)


def test_paths_are_relative_to_the_file(file: Path) -> None:
    (file.parent / "ca.pem").touch()
    (file.parent / "root").write_text(ROOT)
    file.write_text('ca_file = "ca.pem"\ndirectory = "state"\nroot_key = "root"\n')
    settings = load(file, {})
    assert (settings.ca_file, settings.directory) == (file.parent / "ca.pem", file.parent / "state")
    assert settings.root_key == ROOT


def test_all_faults_are_told_at_once_with_their_lines_and_without_values(file: Path) -> None:
    file.write_text(
        'url = "https://ada:secret@example.com"\n'
        'produkt = "app"\n'
        "\n"
        "version = 3\n"
        'license_key = "1AAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAB"\n'
        'root_key = "no root"\n'
        'proxy = "ftp://proxy"\n'
        'ca_file = "nowhere.pem"\n'
        'unit = "app; rm -rf /"\n'
        'language = "fr"\n'
        'name = " "\n'
    )
    found = faults(file, {"SEATKEEPER_CLIENT_CERT": "nowhere.pem"})
    starts = [fault.split(": ")[0].removeprefix(str(file)) for fault in found]
    assert sorted(starts) == sorted([*(f":{n}" for n in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)), "SEATKEEPER_CLIENT_CERT"])
    assert f"{file}:2: there is no setting produkt: write product" in found
    for value in ("secret", "AAAB", "no root", "ftp", "nowhere.pem", "rm -rf", "fr:"):
        assert value not in "\n".join(found).replace(str(file), "")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('url = "https://example.com"\nproduct = app\n', ":2: the line is not TOML"),
        (b"\xff\xfe", ": the file is not UTF-8"),
        (f'token = "t"\nlicense_key = "{KEY}"\n', ":1: license_key and token are both there"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(file: Path, written: str | bytes, expected: str) -> None:
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    (fault,) = faults(file, {})
    assert fault.startswith(f"{file}{expected}")


def test_a_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    for found in (faults(tmp_path / "none", {}), faults(environ={"SEATKEEPER_CONFIG": str(tmp_path / "none")})):
        assert "cannot be read" in found[0]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody may look into the folder, root neither."""
    folder.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


def test_a_folder_that_may_not_be_looked_into_is_a_fault_with_its_file(file: Path) -> None:
    with locked(file.parent):
        (fault,) = faults(environ={"SEATKEEPER_HOME": str(file.parent)})
        assert language_of_line(["status"], {"SEATKEEPER_HOME": str(file.parent), "LANG": "zh_CN"}) == "zh"
    assert str(file) in fault
    assert "permission" in fault
    assert "SEATKEEPER_CONFIG" in fault


def test_a_root_key_is_read_also_where_its_folder_is_shut(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    with locked(file.parent):
        assert load(environ={"SEATKEEPER_HOME": "/nowhere", "SEATKEEPER_ROOT_KEY": ROOT}).root_key == ROOT


def test_a_mistyped_key_is_told_with_what_is_wrong_with_it(file: Path) -> None:
    file.write_text('license_key = "1AAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAB"\n')
    assert "check character" in faults(file, {})[0]
    assert "校验字符" in faults(file, {"SEATKEEPER_LANGUAGE": "zh"})[0]
    with pytest.raises(ConfigurationError) as raised:
        load(file, {})
    assert failure_of(raised.value, "en").code == "KEY_CHECK_MISMATCH"


def test_what_is_needed_and_missing_is_told_together(file: Path) -> None:
    file.write_text('product = "app"\n')
    with pytest.raises(ConfigurationError) as raised:
        load(file, {}, needs=("url", "product", "root_key", "license_key"))
    lines = str(raised.value).splitlines()
    assert [line.split()[0] for line in lines] == ["url", "root_key", "license_key"]
    assert "--key-file, the variable SEATKEEPER_LICENSE_KEY" in lines[2]
    assert load(file, {"SEATKEEPER_TOKEN": "t"}, needs=("license_key",)).token == "t"


def test_what_can_be_read_is_read_beside_the_faults(file: Path) -> None:
    file.write_text(GOOD + 'proxy = "::"\n')
    settings, found = examine(file, {})
    assert (settings.product, settings.proxy, len(found)) == ("app", None, 1)


def test_faults_are_told_in_chinese(file: Path) -> None:
    file.write_text("produkt = 1\n")
    assert "没有名为 produkt 的设置" in faults(file, {"LANG": "zh_CN.UTF-8"})[0]


def test_what_is_written_reads_as_it_was_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "config.toml"
    values = {name: f'{name} "quoted" \\ 名称 \x7f \N{GRINNING FACE}' for name in NAMES}
    write_file(file, values)
    assert {name: given.value for name, given in read_file(file).items()} == values
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
