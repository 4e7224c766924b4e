"""Where files are kept."""

from pathlib import Path

import platformdirs
import pytest

from seatkeeper import paths

HOME = {"SEATKEEPER_HOME": "/srv/seatkeeper"}
KEY = "1AFZ-0123-4567-89AB-CDEF-GHJK-MNPQ"


def folder(url: str = "https://l.example", product: str = "app", key: str | None = KEY, device: str = "f") -> Path:
    return paths.state_directory(url, product, key, fingerprint=device, environ=HOME)


def test_each_server_product_key_and_device_has_a_folder_of_its_own() -> None:
    others = [folder(), folder(url="https://m.example"), folder(product="b"), folder(key=None), folder(device="g")]
    assert len(set(others)) == len(others)
    assert {path.parent for path in others} == {Path("/srv/seatkeeper")}
    assert all(KEY not in str(path) and path.name.isalnum() for path in others)


def test_one_key_has_one_folder_however_it_is_typed() -> None:
    assert folder(key=KEY.lower().replace("-", " ")) == folder(url="https://l.example/") == folder()


def test_without_a_variable_it_is_where_the_platform_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_state_path", lambda _name: tmp_path)
    assert paths.state_directory("u", "p", None, fingerprint="f", environ={}).parent == tmp_path
    assert paths.state_home(HOME) == Path("/srv/seatkeeper")


def test_the_configuration_is_the_users_or_else_the_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    user, site = tmp_path / "user", tmp_path / "site"
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _name: user)
    monkeypatch.setattr(platformdirs, "site_config_path", lambda _name: site)
    assert paths.config_file({}) == user / "config.toml"
    site.mkdir()
    (site / "config.toml").touch()
    assert paths.config_file({}) == site / "config.toml"
    user.mkdir()
    (user / "config.toml").touch()
    assert paths.config_file({}) == user / "config.toml"
    assert paths.config_file(HOME) == Path("/srv/seatkeeper/config.toml")
    assert paths.config_file(HOME | {"SEATKEEPER_CONFIG": "/etc/own.toml"}) == Path("/etc/own.toml")
