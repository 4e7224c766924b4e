"""What errors say, in the language of those who read them."""

import ast
import pickle
import re
import socket
import ssl
from pathlib import Path

import pytest

import seatkeeper
from seatkeeper import tls
from seatkeeper.command.failures import failure_of
from seatkeeper.errors import ConfigurationError, EntitlementMissing, NotGenuine, Refused, TransportError, Unreachable
from seatkeeper.license_file import FileFault
from seatkeeper.system_words import system_words
from seatkeeper.telling import sentence
from seatkeeper.texts import TABLES, Sentence

SOURCES = Path(seatkeeper.__file__).parent
KEY = re.compile(r"error(\.\w+)+")
CHINESE = re.compile("[\u4e00-\u9fff]")
ROOT_KEY = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"


def test_every_error_has_its_text_in_every_language_and_none_is_left_over() -> None:
    named = {
        node.value
        for source in SOURCES.rglob("*.py")
        if source.parent.name != "texts"
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value)
    }
    for table in TABLES.values():
        assert {key for key in table if key.startswith("error.")} == named
    assert len(named) > 60
    assert all(CHINESE.search(TABLES["zh"][key]) for key in named)


def test_no_error_is_raised_with_words_of_its_own() -> None:
    kinds = {"TransportError", "ConfigurationError", "NotGenuine", "EntitlementMissing", "Unreachable"}
    for source in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in kinds:
                assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), (source, node.lineno)


def test_a_sentence_is_english_and_knows_the_others_with_what_is_in_it() -> None:
    said = Sentence("error.connect", host="h", why=Sentence("error.system.refused"))
    assert said == "h cannot be connected to (connection refused): check the URL, the network and its firewall"
    assert said.told("zh") == "无法连接 h（连接被拒绝）：请检查 URL、网络和防火墙"
    assert said.told("fr") == said
    assert pickle.loads(pickle.dumps(said)).told("zh") == said.told("zh")


@pytest.mark.parametrize(
    "error",
    [
        TransportError(Sentence("error.dns", host="h"), kind="dns"),
        Unreachable(Sentence("error.unreachable", why=Sentence("error.dns", host="h")), attempts=1),
        NotGenuine(FileFault.EXPIRED),
        ConfigurationError(Sentence("error.setting.client_key_alone")),
        EntitlementMissing(Sentence("error.entitlement.missing", feature="print")),
        TransportError(tls.explain(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] no"), "h"), kind="tls"),
    ],
)
def test_the_command_tells_the_sdks_errors_in_chinese(error: seatkeeper.SeatkeeperError) -> None:
    told = failure_of(error, "zh").detail
    words = set(re.findall("[A-Za-z_]{2,}", told))
    assert CHINESE.search(told)
    assert words <= {"URL", "DNS", "TLS", "SSLError", "seatkeeper", "doctor", "client_key", "client_cert", "print"}


def test_the_servers_words_stay_as_they_are() -> None:
    assert sentence(Refused("X", status=403, detail="Frag den Anbieter."), "zh") == "Frag den Anbieter."


def test_what_the_system_says_is_told_in_both_languages(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        (tmp_path / "none").read_bytes()
    said = Sentence("error.setting.unreadable", setting="ca_file", path="p", why=system_words(raised.value))
    assert said == "ca_file cannot be read (no such file or folder): p"
    assert said.told("zh") == "无法读取 ca_file（没有这个文件或文件夹）：p"


# --- The client's language ---


def client(folder: Path, **options: str) -> seatkeeper.Client:
    given = {"url": f"http://127.0.0.1:{closed_port()}", "root_key": ROOT_KEY, "language": "zh"} | options
    url = given.pop("url")
    return seatkeeper.Client(
        url,
        product="app",
        directory=folder,
        fingerprint="laptop",
        activation_timeout_s=0.5,
        **given,  # type: ignore[arg-type]
    )


def closed_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"license_key": "a", "token": "b"}, "license_key 和 token 只能填写一个。"),
        ({"root_key": "nonsense"}, "根密钥无效"),
        ({"url": "ftp://x"}, "url 不是服务器地址"),
        ({"proxy": "foo://x"}, "proxy 的协议无法识别"),
        ({"url": "https://x", "ca_file": "/nowhere"}, "无法读取 ca_file（没有这个文件或文件夹）：/nowhere"),
    ],
)
def test_wrong_settings_are_told_in_the_clients_language(tmp_path: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        client(tmp_path, **options)


async def test_all_that_a_client_raises_is_in_its_language(tmp_path: Path) -> None:
    license = client(tmp_path, license_key="an imported key of nobody")
    with pytest.raises(Unreachable, match=r"^无法连接许可证服务器：无法连接 127\.0\.0\.1（连接被拒绝）"):
        await license.activate()
    with pytest.raises(EntitlementMissing, match=r"^许可证未生效：[\u4e00-\u9fff]"):
        license.require("print")
    with pytest.raises(ConfigurationError, match="没有可归还的内容"):
        license.offline.give_back()
    with pytest.raises(NotGenuine, match="这不是许可证文件"):
        license.offline.install(b"{}")
    await license.close()


async def test_in_english_the_same_errors_are_english(tmp_path: Path) -> None:
    license = client(tmp_path, license_key="an imported key of nobody", language="en")
    with pytest.raises(Unreachable, match=r"^The license server is out of reach: 127\.0\.0\.1 cannot be connected to"):
        await license.activate()
    await license.close()
