from pathlib import Path

import msgspec
import pytest
from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import AccountSettings, Settings
from inboxd.config.secrets import load_secrets, require_secrets
from inboxd.runtime.errors import ConfigError

DEFAULT = Path(__file__).parent.parent.parent / "config.toml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_documented_default_is_the_default() -> None:
    assert load_settings(DEFAULT, {}) == Settings() == load_settings(None, {})


def test_every_key_stands_in_the_documented_default() -> None:
    text = DEFAULT.read_text()

    def look(section: msgspec.Struct, name: str) -> None:
        for key in section.__struct_fields__:
            value = getattr(section, key)
            if isinstance(value, msgspec.Struct):
                look(value, f"{name}{key}.")
            elif name:
                assert f"\n[{name[:-1]}]\n" in text
                assert f"\n{key} = " in text, name + key

    assert "[[accounts]]" in text
    look(Settings(), "")


def test_file_and_environment(tmp_path: Path) -> None:
    path = written(tmp_path, '[admin]\nport = 1\nhost = "::1"\n[[accounts]]\nid = "17841400000000001"\nname = "shop"\n')

    settings = load_settings(
        path, {"INBOXD_ADMIN__PORT": "9000", "INBOXD_PUBLIC__REQUEST_TIMEOUT_S": "2.5", "OTHER": "x"}
    )

    assert (settings.admin.port, settings.admin.host, settings.public.request_timeout_s) == (9000, "::1", 2.5)
    assert settings.accounts == (AccountSettings(id="17841400000000001", name="shop"),)


def test_accounts_from_the_environment() -> None:
    assert load_settings(None, {"INBOXD_ACCOUNTS": '[{"id": "1", "name": "a"}]'}).accounts == (
        AccountSettings(id="1", name="a"),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[admin]\nprot = 1", "did you mean 'admin.port'"),
        ("[amdin]\nport = 1", "did you mean 'admin'"),
        ("[[accounts]]\nid = '1'\nnmae = 'x'", "did you mean 'accounts.name'"),
        ("[admin]\nport = 70000", "admin.port"),
        ("[admin]\nport = 'x'", "admin.port"),
        ("[public]\nmax_body_bytes = 0", "public.max_body_bytes"),
        ("[storage]\nkeep_deliveries_days = 0", "storage.keep_deliveries_days"),
        ("[instagram]\ngraph_url = 'ftp://x'", "instagram.graph_url"),
        ("[instagram]\ngraph_version = '25'", "instagram.graph_version"),
        ("[[accounts]]\nid = 'shop'", "accounts"),
        ("[[accounts]]\nid = '1'\n[[accounts]]\nid = '1'", "listed twice"),
        ("admin = 5", "admin"),
        ('[[accounts]]\nid = "7\\n"', "accounts"),
        ('[instagram]\ngraph_url = "https://x\\n"', "instagram.graph_url"),
        ('[instagram]\ngraph_version = "v25.0\\n"', "instagram.graph_version"),
        ('[public]\nbase_url = "https://x\\n"', "public.base_url"),
        ("this is no toml", "not valid TOML"),
        ("app_secrets = ['x']", "looks like a secret"),
        ("[admin]\nadmin_token = 'hush'", "looks like a secret"),
        ("[[accounts]]\nid = '1'\naccess_token = 'hush'", "looks like a secret"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load_settings(written(tmp_path, text), {})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[instagram]\ngraph_url = 'graph.example'", "instagram.graph_url: Expected http:// or https:// and a host"),
        ("[public]\nbase_url = 'https://a.example/inbox'", "and nothing after it, such as 'https://inbox.example.com'"),
        ("[instagram]\ngraph_version = '25'", "such as 'v25.0'"),
        ("[instagram]\napp_id = 'x'", "instagram.app_id: Expected an id of Meta's"),
        ("[[accounts]]\nid = 'shop'", "digits alone"),
        ("[[accounts]]\nid = '1'\npage_id = 'x'", "digits alone"),
    ],
)
def test_what_is_expected_is_said_in_words(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(written(tmp_path, text), {})
    assert told in str(caught.value)
    assert "regex" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("INBOXD_ADMIN__PROT", "1", "did you mean 'INBOXD_ADMIN__PORT'"),
        ("INBOXD_ADMIN__PORT", "x", "admin.port"),
        ("INBOXD_ADMIN", "1", "unknown variable"),
        ("INBOXD_ACCOUNTS", "[", "JSON array"),
        ("INBOXD_ACCOUNTS", "[" * 5000, "JSON array"),
        ("INBOXD_AVATARS__HOSTS", "[" * 5000, "JSON array"),
        ("INBOXD_ACCOUNTS", '{"id": "1"}', "accounts"),
        ("INBOXD_ACCOUNTS", '[{"id": "1", "token": "hush"}]', "looks like a secret"),
        ("INBOXD_ACCOUNTS", '[{"id": "1", "nmae": "x"}]', "nmae"),
    ],
)
def test_mistakes_in_the_environment_are_named(variable: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings(None, {variable: value})


@pytest.mark.parametrize("key", ["login_type", "flavour"])
def test_the_login_type_goes_by_its_older_name_too(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, f"[[accounts]]\nid = '1'\n{key} = 'facebook'")
    assert load_settings(path, {}).accounts == (AccountSettings(id="1", login_type="facebook"),)
    given = {"INBOXD_ACCOUNTS": f'[{{"id": "1", "{key}": "facebook"}}]'}
    assert load_settings(None, given).accounts == (AccountSettings(id="1", login_type="facebook"),)


def test_two_login_types_of_one_account_are_refused(tmp_path: Path) -> None:
    both = "[[accounts]]\nid = '1'\nflavour = 'facebook'\nlogin_type = "
    assert load_settings(written(tmp_path, both + "'facebook'"), {}).accounts[0].login_type == "facebook"
    with pytest.raises(ConfigError, match="older name of 'login_type'"):
        load_settings(written(tmp_path, both + "'instagram'"), {})


@pytest.mark.parametrize("key", ["keep_webhook_events_days", "keep_events_days"])
def test_the_time_that_webhook_events_are_kept_goes_by_its_older_name_too(tmp_path: Path, key: str) -> None:
    path = written(tmp_path, f"[storage]\n{key} = 7")
    assert load_settings(path, {}).storage.keep_webhook_events_days == 7
    assert load_settings(path, {f"INBOXD_STORAGE__{key.upper()}": "8"}).storage.keep_webhook_events_days == 8


def test_accounts_that_are_no_list_are_refused_also_where_the_file_has_some(tmp_path: Path) -> None:
    path = written(tmp_path, "[[accounts]]\nid = '1'")
    with pytest.raises(ConfigError, match="accounts: Expected `array`"):
        load_settings(path, {"INBOXD_ACCOUNTS": '{"id": "1"}'})


@pytest.mark.parametrize(
    "text",
    [
        "[storage]\nkeep_messages_days = 999999999999",
        "[profiles]\ncache_size = 99999999999",
        "[backfill]\njitter_s = inf",
        "[public]\nrequest_timeout_s = nan",
        "a = " + "[" * 5000 + "]" * 5000,
        ".".join(["a"] * 3000) + " = 1",
        "[admin]\nport = " + "9" * 5000,
    ],
)
def test_numbers_and_depths_without_measure_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError):
        load_settings(tmp_path / "config.toml", {})


def test_where_the_configuration_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config(None, {}) is None
    path = written(tmp_path, "")
    assert find_config(None, {}) == Path("config.toml")
    assert find_config(None, {"INBOXD_CONFIG": str(path)}) == path
    with pytest.raises(ConfigError, match="no configuration file"):
        find_config(tmp_path / "nowhere.toml", {})


def test_the_database_lives_in_the_state_directory() -> None:
    storage = Settings().storage

    assert storage.resolved({"STATE_DIRECTORY": "/var/lib/inboxd"}) == Path("/var/lib/inboxd/inboxd.sqlite3")
    assert storage.resolved({}) == Path("inboxd.sqlite3")


def test_secrets_come_from_credentials_then_files_then_variables(tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "verify_token").write_text("from-credential\n")
    (credentials / "account_token_17").write_text("token-17\n")
    (tmp_path / "admin").write_text("from-file\n")

    secrets = load_secrets(
        {
            "CREDENTIALS_DIRECTORY": str(credentials),
            "INBOXD_VERIFY_TOKEN": "from-variable",
            "INBOXD_ADMIN_TOKEN_FILE": str(tmp_path / "admin"),
            "INBOXD_ADMIN_TOKEN": "from-variable",
            "INBOXD_APP_SECRETS": "one\n\n two \n",
            "INBOXD_ACCOUNT_TOKEN_18": "token-18",
        }
    )

    assert [secret.reveal() for secret in secrets.app_secrets] == ["one", "two"]
    assert secrets.verify_token is not None
    assert secrets.verify_token.reveal() == "from-credential"
    assert secrets.admin_token is not None
    assert secrets.admin_token.reveal() == "from-file"
    assert {name: token.reveal() for name, token in secrets.account_tokens.items()} == {
        "17": "token-17",
        "18": "token-18",
    }


def test_more_admin_tokens_may_be_none(tmp_path: Path) -> None:
    (tmp_path / "admin_tokens").write_text("\n")

    assert load_secrets({"CREDENTIALS_DIRECTORY": str(tmp_path)}).named_tokens == ()


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"INBOXD_VERIFY_TOKEN": "  "}, "verify_token is blank"),
        ({"INBOXD_APP_SECRETS": ""}, "app_secrets is blank"),
        ({"INBOXD_VERIFY_TOKEN_FILE": "/nowhere"}, "cannot read the secret verify_token"),
        ({"INBOXD_ADMIN_TOKENS": "grafana:reed:hush"}, "name:scopes:token"),
        ({"INBOXD_ADMIN_TOKENS": "grafana:read,wirte:hush"}, "name:scopes:token"),
        ({"INBOXD_ADMIN_TOKENS": "grafana:read"}, "name:scopes:token"),
    ],
)
def test_unusable_secrets_are_named(environment: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_secrets(environment)


def test_every_missing_secret_is_named_with_its_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        require_secrets(load_secrets({}))

    for name in ("app_secrets", "verify_token"):
        assert f"INBOXD_{name.upper()}_FILE" in str(caught.value)


def test_lists_come_from_the_environment_as_json() -> None:
    settings = load_settings(None, {"INBOXD_AVATARS__HOSTS": '["one.example", "two.example"]'})
    assert settings.avatars.hosts == ("one.example", "two.example")
    with pytest.raises(ConfigError, match="INBOXD_AVATARS__HOSTS must be a JSON array"):
        load_settings(None, {"INBOXD_AVATARS__HOSTS": "one.example"})


def test_a_network_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"avatars.allow_networks: '10\.0\.0\.0/99' is not an IP network"):
        load_settings(None, {"INBOXD_AVATARS__ALLOW_NETWORKS": '["10.0.0.0/99"]'})


def test_storage_keys_are_one_per_line() -> None:
    keys = load_secrets({"INBOXD_STORAGE_KEY": "new\nold\n"}).storage_keys
    assert [key.reveal() for key in keys] == ["new", "old"]


@pytest.mark.parametrize("wrong", ["nightly", "61 3 * * *", "0 3 * *", "0 3 30 2 *"])
def test_a_schedule_that_is_none_is_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"backfill\.schedule: .* is not a cron expression"):
        load_settings(None, {"INBOXD_BACKFILL__SCHEDULE": wrong})
    assert not load_settings(None, {"INBOXD_BACKFILL__SCHEDULE": ""}).backfill.schedule
