"""The house is as docs/architecture.md says: its worked example runs, and its rules are kept."""

import ast
import importlib.util
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Final

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.core import open_core
from inboxd.feature import Feature
from inboxd.maintenance.feature import Process
from inboxd.offline import personal_data
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.runtime.clock import Clock
from inboxd.simulator.payloads import Conversationalist
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, T0, Client

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "daemon" / "inboxd"
MODULES: Final = sorted(SOURCE.rglob("*.py"))
EXAMPLE: Final = re.compile(r"```python\n(.*?)```", re.DOTALL)
NAMED: Final = re.compile(r"`([a-z_/]+(?:\.py|/))`")
FILES_OF_A_FEATURE: Final = {f"{name}.py" for name in ("store", "personal_data_store", "worker", "api", "pages")} | {
    "resources.py", "feature.py", "overview.py", "commands.py", "metrics.py", "templates/",
}  # fmt: skip
SQL: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|CREATE)\s+\S")
SHADOWS: Final = ("config", "content", "data", "docsize", "idx")
"""What SQLite adds to the name of a full-text index for the tables that it keeps it in."""


# --- the worked example -----------------------------------------------------------------------------------------------


@pytest.fixture
def example(tmp_path: Path) -> ModuleType:
    """The module that the document shows."""
    (block,) = EXAMPLE.findall((ROOT / "docs" / "architecture.md").read_text())
    assert len(block.splitlines()) < 60
    path = tmp_path / "writers.py"
    path.write_text(block)
    spec = importlib.util.spec_from_file_location("writers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def with_example(
    example: ModuleType, settings: Settings, secrets: Secrets, tmp_path: Path
) -> AsyncIterator[Client]:
    """A daemon with one feature more."""
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail, more=[example.build]) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def metric(client: Client, name: str) -> float | None:
    async with client.session.get(
        f"{client.admin_url}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    ) as response:
        found = re.search(rf"^{name} (\S+)$", await response.text(), re.MULTILINE)
        return None if found is None else float(found[1])


async def test_the_worked_example_is_a_feature_of_a_daemon(with_example: Client) -> None:
    client = with_example
    assert await client.get("/api/writers") == {"writers": []}

    ana, bruno = (Conversationalist(ACCOUNT, one, T0) for one in (ANA, BRUNO))
    await client.deliver(ana.says("hello"), ana.says("anybody there?"), bruno.says("hi"))
    await client.settled()
    assert await client.get("/api/writers") == {"writers": [[ACCOUNT, ANA, 2], [ACCOUNT, BRUNO, 1]]}
    assert await metric(client, "inboxd_writers") == 2

    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{ANA}")
    assert await client.get("/api/writers") == {"writers": [[ACCOUNT, BRUNO, 1]]}
    assert await metric(client, "inboxd_writers") == 1
    assert "/api/writers" in (await client.get("/api/openapi.json", token=None))["paths"]


def test_the_files_that_the_document_names_are_there() -> None:
    named = set(NAMED.findall((ROOT / "docs" / "architecture.md").read_text()))
    assert len(named) > 30
    assert {one for one in named if not (SOURCE / one).exists() and not (ROOT / one).exists()} <= FILES_OF_A_FEATURE


# --- personal data ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def features(settings: Settings, secrets: Secrets, tmp_path: Path) -> AsyncIterator[tuple[Feature, ...]]:
    """The features of a daemon."""
    async with AsyncExitStack() as stack:
        core = await open_core(stack, tmp_path / "built.sqlite3", Clock(), on_give_up=pytest.fail)
        yield await app.build_features(core, stack, settings, secrets, Process())


def declared(features: tuple[Feature, ...]) -> Counter[str]:
    return Counter(table for feature in features for one in feature.personal_data for table in one.tables)


async def test_every_table_of_the_schema_is_declared_by_one_feature(
    features: tuple[Feature, ...], database: Database
) -> None:
    rows = await database.read("SELECT name, sql LIKE 'CREATE VIRTUAL TABLE%' FROM sqlite_master WHERE type = 'table'")
    shadows = {"sqlite_sequence"} | {f"{name}_{suffix}" for name, virtual in rows if virtual for suffix in SHADOWS}
    assert declared(features) == Counter({name for name, _ in rows} - shadows)


async def test_commands_without_a_daemon_know_the_same_personal_data(
    features: tuple[Feature, ...], database: Database, tmp_path: Path
) -> None:
    offline = personal_data(database, AvatarStore(database, tmp_path), ProfileCache(Clock(), ttl_s=1, size=1))
    running = [one for feature in features for one in feature.personal_data]
    assert [one.tables for one in offline] == [one.tables for one in running], "also in the same order"


# --- the rules of the code --------------------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    found = function.args
    names = [one.arg for one in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    return [name for name in names if name not in {"self", "cls"}]


def statements(tree: ast.AST) -> Iterator[str]:
    """The string constants that look like SQL."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield node.value


def may_have_sql(path: Path) -> bool:
    return path.name == "store.py" or path.name.endswith("_store.py") or name_of(path).startswith("storage/")


def offenders(found: Callable[[Path], object]) -> dict[str, object]:
    """What is found in the modules, by their names."""
    return {name_of(path): result for path in MODULES if (result := found(path))}


def test_the_composition_root_can_be_read_at_once() -> None:
    assert lines_of(SOURCE / "app.py") < 160


def test_no_module_is_long() -> None:
    assert offenders(lambda path: max(0, lines_of(path) - 400)) == {}


def test_no_function_takes_more_than_eight_parameters() -> None:
    """Value types have fields, not parameters."""

    def many(path: Path) -> list[str]:
        tree = ast.parse(path.read_text())
        return [function.name for function in functions(tree) if len(parameters(function)) > 8]

    assert offenders(many) == {}


def test_only_stores_have_sql() -> None:
    def stray(path: Path) -> list[str]:
        return [] if may_have_sql(path) else list(statements(ast.parse(path.read_text())))

    assert offenders(stray) == {}


def test_what_looks_like_sql_is_found() -> None:
    source = 'A = "SELECT 1"\nB = f"""\n  DELETE FROM {a}"""\nC = "DELETE"\nD = "Delete it."'
    assert list(statements(ast.parse(source))) == ["SELECT 1", "\n  DELETE FROM "]
