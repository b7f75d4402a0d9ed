"""The Debian package: its scripts, and what is in it. Installing it needs a machine of its own."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from inboxd import __version__

ROOT = Path(__file__).parent.parent.parent
PACKAGING = ROOT / "packaging"
SCRIPTS = ["build-deb", "inboxd", "debian/inboxd.postinst", "debian/inboxd.prerm", "debian/inboxd.postrm"]
QUICKLY = {"DPKG_DEB_COMPRESSOR_TYPE": "gzip", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
"""The package is looked into, not handed on. Otherwise most of its time would be for making it small."""
needs_debhelper = pytest.mark.skipif(shutil.which("dh") is None, reason="debhelper is not installed")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_can_be_read(script: str) -> None:
    done = subprocess.run(["/bin/sh", "-n", PACKAGING / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def installed_command(folder: Path, user_id: int, *arguments: str, **stand_ins: str) -> str:
    """What the package's command prints with /etc/inboxd and its programs in `folder`, for the user of that id."""
    for name, script in ({"id": f"echo {user_id}"} | stand_ins).items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    text = (PACKAGING / "inboxd").read_text()
    text = text.replace("/etc/inboxd/", f"{folder}/etc/").replace("/usr/lib/inboxd/bin/", f"{folder}/")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["/bin/sh", "-c", text, "inboxd", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_command_uses_the_daemons_configuration(tmp_path: Path) -> None:
    told = installed_command(tmp_path, 1000, "export", "--account", "1 2", inboxd='echo "$INBOXD_CONFIG|$2|$3"')
    assert told == f"{tmp_path}/etc/config.toml|--account|1 2\n"


def test_root_hands_the_secrets_over_and_becomes_the_daemons_user(tmp_path: Path) -> None:
    (tmp_path / "etc" / "account_tokens").mkdir(parents=True)
    (tmp_path / "etc" / "app_secrets").write_text("new one\nold one\n")
    (tmp_path / "etc" / "account_tokens" / "17").write_text("a token\n")
    show = 'echo "$@"; echo "$INBOXD_APP_SECRETS|$INBOXD_ACCOUNT_TOKEN_17|${INBOXD_ADMIN_TOKEN-none}"'
    told = installed_command(tmp_path, 0, "doctor", setpriv=show)
    assert told == (
        f"--reuid=inboxd --regid=inboxd --init-groups -- {tmp_path}/inboxd doctor\nnew one\nold one|a token|none\n"
    )


@pytest.mark.long
@needs_debhelper
def test_the_package_holds_all_that_runs_and_nothing_of_where_it_was_built(tmp_path: Path) -> None:
    built = subprocess.run(
        [PACKAGING / "build-deb"], env=os.environ | QUICKLY, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    package = ROOT / built.stdout.splitlines()[-1]
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)  # noqa: S607
    version = subprocess.run(
        ["dpkg-deb", "--field", package, "Version"], capture_output=True, text=True, check=True  # noqa: S607
    ).stdout  # fmt: skip
    assert version.startswith(__version__)
    assert 'path = "/var/lib/inboxd/inboxd.sqlite3"' in (tmp_path / "etc/inboxd/config.toml").read_text()
    units = {path.name for path in tmp_path.rglob("inboxd*") if path.parent.name == "system"}
    assert units == {"inboxd.service", "inboxd.socket", "inboxd-backup.service", "inboxd-backup.timer"}
    assert [path for path in tmp_path.rglob("*") if path.is_file() and os.fsencode(ROOT) in path.read_bytes()] == []
    assert {path.name for path in (tmp_path / "usr/lib/inboxd/bin").iterdir() if "python" not in path.name} == {
        "inboxd"
    }
    (libraries,) = (tmp_path / "usr/lib/inboxd/lib").glob("python3*/site-packages")
    told = subprocess.run(
        [f"/usr/bin/{libraries.parent.name}", "-I", "-c", _RUN, libraries, "check-config", "--config",
         tmp_path / "etc/inboxd/config.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.stdout.endswith("the configuration is valid\n"), told.stderr


_RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from inboxd.cli import main; main()"
