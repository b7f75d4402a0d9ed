from tests.e2e.conftest import Process


def test_the_demo_ends_with_a_name_on_everybody(inboxd: Process) -> None:
    result = inboxd.run("demo", "--once")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "25 of 25 people have a profile" in result.stdout
    assert "unknown yet" not in result.stdout
