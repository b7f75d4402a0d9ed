"""Users, tokens, keys, credentials and TLS, at a real nats-server."""

import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from inboxd import app
from inboxd.config.loading import load_settings
from inboxd.config.schema import ForwardSettings, NatsSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.forwarding import nats as package
from inboxd.forwarding.nats import nkey
from inboxd.runtime.errors import ConfigError
from inboxd.runtime.secret import Secret
from inboxd.storage.database import Database
from msgspec.structs import replace

from tests.forwarding.nats.keys import Authority, Nkey, credentials
from tests.forwarding.nats.publishing import Publishing
from tests.forwarding.nats.servers import NatsServer, missing

PASSWORD = "correct horse"
Run = Callable[[str], Awaitable[NatsServer]]


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Starts a server with more configuration."""
    servers: list[NatsServer] = []

    async def start(more: str) -> NatsServer:
        why = missing()
        if why is not None:
            pytest.skip(why)
        folder = tmp_path / "nats"
        folder.mkdir()
        servers.append(NatsServer(folder, more))
        await servers[0].start()
        return servers[0]

    yield start
    for one in servers:
        one.end()


@pytest.fixture
async def publish(database: Database) -> AsyncIterator[Callable[..., Awaitable[Publishing]]]:
    """Starts a publisher with one event to publish."""
    made: list[Publishing] = []

    async def start(url: str, **server: Any) -> Publishing:
        made.append(Publishing(database, url, **server))
        await made[0].append(1)
        await made[0].start()
        return made[0]

    yield start
    for one in made:
        await one.stop()


Publish = Callable[..., Awaitable[Publishing]]


async def test_user_and_password(run: Run, publish: Publish) -> None:
    server = await run(f'authorization {{ user: inboxd, password: "{PASSWORD}" }}')
    publishing = await publish(server.url, user="inboxd", password=Secret(PASSWORD))
    await publishing.done()
    assert publishing.counted("published") == 1


@pytest.mark.parametrize("given", [{"user": "inboxd", "password": Secret("wrong")}, {"token": Secret("no")}, {}])
async def test_whoever_is_not_let_in_is_told(
    run: Run, publish: Publish, given: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server = await run(f'authorization {{ user: inboxd, password: "{PASSWORD}" }}')
    publishing = await publish(server.url, **given)
    state = await publishing.waits("the server refuses our user, password, token or key")
    assert not state.connected
    assert "wrong" not in str(state)
    assert "wrong" not in capsys.readouterr().out.replace("what is wrong", "")


async def test_a_token(run: Run, publish: Publish) -> None:
    server = await run('authorization { token: "s3cr3t" }')
    publishing = await publish(server.url, token=Secret("s3cr3t"))
    await publishing.done()


async def test_an_nkey(run: Run, publish: Publish, tmp_path: Path) -> None:
    key = Nkey("user")
    (tmp_path / "seed").write_text(key.seed + "\n")
    server = await run(f"authorization {{ users: [ {{ nkey: {key.public} }} ] }}")
    publishing = await publish(server.url, nkey=str(tmp_path / "seed"))
    await publishing.done()


async def test_a_credentials_file(run: Run, publish: Publish, tmp_path: Path) -> None:
    operator, account, user, system = (Nkey(kind) for kind in ("operator", "account", "user", "account"))
    anything = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    limits = {"subs": -1, "conn": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": True}
    account_jwt = operator.jwt(account, "shop", limits={**limits, **anything})
    system_jwt = operator.jwt(system, "SYS", limits=limits)
    user_jwt = account.jwt(user, "inboxd", subs=-1, data=-1, payload=-1)
    (tmp_path / "inboxd.creds").write_text(credentials(user_jwt, user.seed))
    server = await run(
        f"operator: {operator.jwt(operator, 'us')}\nresolver: MEMORY\nsystem_account: {system.public}\n"
        f"resolver_preload: {{ {account.public}: {account_jwt}, {system.public}: {system_jwt} }}"
    )
    publishing = await publish(server.url, credentials=str(tmp_path / "inboxd.creds"))
    await publishing.done()


async def test_what_a_user_may_not_do_is_told(run: Run, publish: Publish) -> None:
    server = await run(
        'authorization { users: [ { user: inboxd, password: "p", permissions: { publish: ["$JS.API.>"], '
        'subscribe: ["_INBOX.>"] } } ] }'
    )
    publishing = await publish(server.url, user="inboxd", password=Secret("p"))
    await publishing.waits('permissions violation for publish to "inboxd.events.test.noted')


async def test_the_rights_in_the_documentation_are_enough(run: Run, publish: Publish) -> None:
    text = (Path(__file__).parents[3] / "docs" / "forwarding.md").read_text()
    rights = re.findall(r"^(?:publish|subscribe): \[.*\]$", text, re.MULTILINE)
    assert len(rights) == 2
    user = f'{{ user: inboxd, password: "p", permissions: {{ {", ".join(rights)} }} }}'
    server = await run(f"authorization {{ users: [ {user} ] }}")
    publishing = await publish(server.url, user="inboxd", password=Secret("p"))
    await publishing.done()
    await publishing.stop()
    await publishing.database.execute("UPDATE event_consumers SET cursor = 0")
    await publishing.append(1)
    await publishing.start()
    await publishing.done()
    assert publishing.counted("published") == 1
    assert publishing.counted("duplicate") == 0, "the place was found in the stream"


async def test_a_server_without_jetstream_is_told(run: Run, publish: Publish, tmp_path: Path) -> None:
    server = await run("accounts { A: { users: [ { user: a, password: p } ] } }")
    publishing = await publish(server.url, user="a", password=Secret("p"))
    await publishing.waits("JetStream not enabled for account")


async def test_tls_with_our_own_authority_and_certificate(run: Run, publish: Publish, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.certify("server")
    server = await run(f'tls {{ cert_file: "{cert}", key_file: "{key}", ca_file: "{authority.path}", verify: true }}\n')
    own, own_key = authority.certify("inboxd")
    url = server.url.replace("nats://", "tls://")
    publishing = await publish(url, ca=str(authority.path), cert=str(own), key=str(own_key))
    await publishing.done()


async def test_a_certificate_of_a_stranger_is_not_trusted(run: Run, publish: Publish, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    authority, other = Authority(tmp_path), Authority(tmp_path / "other")
    cert, key = authority.certify("server")
    server = await run(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    publishing = await publish(server.url, ca=str(other.path))
    await publishing.waits("the server's certificate is not trusted")


async def test_no_password_is_sent_where_tls_is_wanted_and_missing(run: Run, publish: Publish) -> None:
    server = await run(f'authorization {{ user: inboxd, password: "{PASSWORD}" }}')
    publishing = await publish(server.url.replace("nats://", "tls://"), user="inboxd", password=Secret(PASSWORD))
    await publishing.waits("the server offers no TLS")


# --- what is wrong is said before anything starts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"credentials": "/nowhere.creds"}, "forward.nats.credentials: cannot read /nowhere.creds: No such file"),
        ({"nkey": "/nowhere.nk"}, "forward.nats.nkey: cannot read /nowhere.nk"),
        ({"ca": "/nowhere.pem"}, "forward.nats.ca: /nowhere.pem has no certificates that can be read"),
        ({"cert": "/nowhere.pem", "key": "/nowhere.key"}, "forward.nats.cert and key"),
        ({"user": "inboxd"}, "forward.nats.user needs its password.*nats_password"),
    ],
)
async def test_what_cannot_be_used_ends_the_start(
    settings: Settings, secrets: Secrets, tmp_path: Path, given: dict[str, str], words: str
) -> None:
    nats = NatsSettings(url="nats://127.0.0.1:1", **given)
    with pytest.raises(ConfigError, match=words):
        async with app.run_daemon(
            replace(settings, forward=ForwardSettings(nats=nats)),
            secrets,
            tmp_path / "inboxd.sqlite3",
            on_give_up=pytest.fail,
        ):
            pass


async def test_without_the_library_the_start_says_what_to_install(
    settings: Settings, secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "nats" or name.startswith("inboxd.forwarding.nats."):
            monkeypatch.delitem(sys.modules, name)
            monkeypatch.delattr(package, name.rpartition(".")[2], raising=False)
    monkeypatch.setitem(sys.modules, "nats", None)
    nats = ForwardSettings(nats=NatsSettings(url="nats://127.0.0.1:1"))
    path = tmp_path / "inboxd.sqlite3"
    with pytest.raises(ConfigError, match=r"pip install 'inboxd\[nats\]'"):
        async with app.run_daemon(replace(settings, forward=nats), secrets, path, on_give_up=pytest.fail):
            pass
    async with app.run_daemon(settings, secrets, path, on_give_up=pytest.fail):
        pass  # where NATS is not configured, nobody misses it


def mistyped(seed: str) -> str:
    """With another letter in the middle."""
    return seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: "SUAAAA", "has no seed of a user's nkey"),
        (lambda: Nkey("account").seed, "has the seed of an account or operator"),
        (lambda: Nkey("user").public, "has no seed of a user's nkey"),
        (lambda: mistyped(Nkey("user").seed), "has no seed of a user's nkey"),
        (lambda: "", "has no seed of a user's nkey"),
    ],
)
def test_what_is_no_seed_is_named(tmp_path: Path, make: Callable[[], str], words: str) -> None:
    text = make()
    (tmp_path / "seed").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        nkey.from_seed_file(tmp_path / "seed")
    assert not text or text not in str(caught.value)


def test_what_is_no_credentials_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "creds").write_text(Nkey("user").seed)
    with pytest.raises(ConfigError, match="is no credentials file"):
        nkey.from_credentials_file(tmp_path / "creds")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('url = "http://nats"', "the NATS servers, separated by commas"),
        ('url = "nats://user:secret@nats:4222"', "Users and passwords do not belong there"),
        ('subject = "{type}.events"', "separated by dots"),
        ('subject = "inboxd.{kind}"', "'{type}' and '{account}' may stand for one"),
        ('subject = "inboxd.>"', "separated by dots"),
        ('stream = "IN BOX"', "letters, digits"),
        ('user = "a"\ncredentials = "b"', "only one of them can be used"),
        ('cert = "a"', "cert and key belong together"),
        ('usr = "a"', "did you mean 'forward.nats.user'"),
        ('password = "a"', "looks like a secret.*nats_password"),
    ],
)
def test_mistakes_in_the_configuration_are_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[forward.nats]\n{line}\n")
    with pytest.raises(ConfigError, match=words):
        load_settings(path, {})


def test_it_can_be_configured_by_the_environment() -> None:
    url = "nats://one:4222,tls://two"
    found = load_settings(None, {"INBOXD_FORWARD__NATS__URL": url, "INBOXD_FORWARD__NATS__STREAM": "SHOP"})
    assert (found.forward.nats.url, found.forward.nats.stream) == (url, "SHOP")
