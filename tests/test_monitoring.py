"""Metrics, dashboard and alerts belong together: names exist, and every alert leads to what is to be done."""

import asyncio
import importlib
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from inboxd.domain.traffic import TrafficCause
from inboxd.runtime.metrics import Metrics
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from tests.support import ADMIN_TOKEN, Client

SOURCES = Path(__file__).parent.parent / "daemon" / "inboxd"
DOCS = Path(__file__).parent.parent / "docs"
ALERTS = DOCS / "monitoring" / "alerts.yml"
GRAFANA = DOCS / "monitoring" / "grafana.json"
NAME = re.compile(r"\b(?:inboxd|process)_[a-z_]+[a-z]\b")
OF_THE_SCRAPE = {"instance", "job"}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


def every() -> tuple[CollectorRegistry, list[Any]]:
    """A registry with every instrument that there is, and the objects that hold them: each feature has its own."""
    metrics = Metrics("1")
    holders: list[Any] = [metrics]
    for path in sorted(SOURCES.rglob("metrics.py")):
        name = ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts)
        if name == Metrics.__module__:
            continue
        kinds = [one for one in vars(importlib.import_module(name)).values() if isinstance(one, type)]
        holders += [kind(metrics.registry) for kind in kinds if kind.__module__ == name]
    return metrics.registry, holders


def exposed() -> set[str]:
    """Every series name that Prometheus can see."""
    registry, _ = every()
    found = set()
    for family in registry.collect():
        found.add(family.name)
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ())
        found |= {family.name + suffix for suffix in suffixes}
    return found


def expressions() -> list[str]:
    grafana = json.loads(GRAFANA.read_text(encoding="utf-8"))
    shown = [target["expr"] for panel in grafana["panels"] for target in panel["targets"]]
    return shown + re.findall(r"expr: (.+)", ALERTS.read_text(encoding="utf-8"))


def test_what_is_drawn_and_watched_exists() -> None:
    names = {name for text in expressions() for name in NAME.findall(text)}
    assert len(names) > 20
    assert names - exposed() == set()


@pytest.mark.parametrize(
    "series",
    [
        "inboxd_processing_stalled",
        "inboxd_workers_parked",
        "inboxd_graph_unreachable",
        "inboxd_budget_slowed_by",
        "inboxd_traffic_findings",
        'result="no_room"',
        "inboxd_connections_refused_total",
        "inboxd_undelivered_seconds",
        "inboxd_reconciliation_last_check_timestamp_seconds",
        "inboxd_history_conversations",
    ],
)
def test_whatever_rests_or_is_refused_is_drawn(series: str) -> None:
    assert series in GRAFANA.read_text(encoding="utf-8").replace('\\"', '"')


def test_no_panel_lies_on_another() -> None:
    panels = json.loads(GRAFANA.read_text(encoding="utf-8"))["panels"]
    cells = [
        (column, row)
        for place in (panel["gridPos"] for panel in panels)
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(column for column, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def labels() -> dict[str, set[str]]:
    """The labels that each series has, besides those that Prometheus gives to whatever it scrapes."""
    found: dict[str, set[str]] = {}
    _, holders = every()
    for one in itertools.chain.from_iterable(vars(holder).values() for holder in holders):
        if isinstance(one, MetricWrapperBase):
            for suffix in ("", "_total", "_bucket", "_sum", "_count"):
                found[one._name + suffix] = set(one._labelnames) | ({"le"} if suffix == "_bucket" else set())
    return found


def selectors(text: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """The series of ours in an expression, each with what is asked of its labels: name, operator, value."""
    found = re.findall(r"\b(inboxd_[a-z_]+)\b(?:\{([^}]*)\})?", text)
    return [(name, re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', asked)) for name, asked in found]


def test_what_is_asked_of_a_label_can_be_true() -> None:
    """A matcher of a label that is not there matches nothing, and an alert that matches nothing is silent for ever."""
    known, asked = labels(), 0
    for text in expressions():
        for name, matchers in selectors(text):
            for label, operator, wanted in matchers:
                if label in OF_THE_SCRAPE:
                    continue
                asked += 1
                assert label in known[name], f"{text}: {name} has no label {label}"
                values = {one.labels[label] for one in samples(name.removesuffix("_total")) if label in one.labels}
                assert set(wanted.split("|") if "~" in operator else [wanted]) <= values, text
    assert asked > 6


def test_what_is_summed_by_and_shown_is_a_label_of_each_series() -> None:
    known, looked_at = labels(), 0
    shown = [
        (target["expr"], re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat", "")))
        for panel in json.loads(GRAFANA.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]
    shown += [
        (re.findall(r"expr: (.+)", alert)[0], re.findall(r"\$labels\.(\w+)", alert))
        for alert in ALERTS.read_text(encoding="utf-8").split("- alert:")[1:]
    ]
    for text, told in shown:
        by = {one for group in re.findall(r"\bby \(([^)]*)\)", text) for one in re.split(r",\s*", group)}
        for name, _ in selectors(text):
            for label in by.union(told) - OF_THE_SCRAPE:
                looked_at += 1
                assert label in known[name], f"{text}: {name} has no label {label}"
    assert looked_at > 15


def test_the_labels_in_the_list_of_metrics_are_those_that_there_are() -> None:
    listed = re.findall(r"`(inboxd_[a-z_]+)\{([a-z,]+)\}`", (DOCS / "operations.md").read_text(encoding="utf-8"))
    assert len(listed) > 10
    known = labels()
    for name, names in listed:
        if name != "inboxd_build_info":
            assert set(names.split(",")) == known[name], name


def test_no_metric_is_left_out_of_sight() -> None:
    drawn = " ".join(expressions()) + (DOCS / "operations.md").read_text(encoding="utf-8")
    ours = {family.name for family in every()[0].collect() if family.name.startswith("inboxd_")}
    assert {name for name in ours if name not in drawn} == set()


def test_every_alert_leads_to_a_section_of_the_runbook() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", (DOCS / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert "file:" not in text
    wanted = re.findall(r'runbook_url: "\{\{ \$externalLabels\.inboxd_runbook \}\}#(\S+)"', text)
    assert len(wanted) == text.count("- alert:")
    assert set(wanted) - anchors == set()


def test_where_the_runbook_is_read_is_a_setting_of_prometheus() -> None:
    text = (DOCS / "monitoring" / "prometheus.yml").read_text(encoding="utf-8")
    assert re.search(r"external_labels:\n(?:\s+#.*\n)*\s+inboxd_runbook: https://", text)


@pytest.mark.parametrize(
    "series", ["inboxd_graph_unreachable", 'inboxd_deliveries_total{result="no_room"}', "inboxd_undelivered_seconds"]
)
def test_what_is_no_fault_of_ours_has_an_alert_too(series: str) -> None:
    assert series in ALERTS.read_text(encoding="utf-8")


@pytest.mark.parametrize("cause", list(TrafficCause))
def test_every_cause_of_unusual_traffic_is_told_everywhere(cause: TrafficCause) -> None:
    assert f'inboxd_traffic_findings{{cause="{cause.value}"}}' in ALERTS.read_text(encoding="utf-8")
    for name in ("operations.md", "log-events.md"):
        assert f"`{cause.value}`" in (DOCS / name).read_text(encoding="utf-8").replace(":", "`")
    assert cause.value in dict.fromkeys(sample.labels["cause"] for sample in samples("inboxd_traffic_findings"))


def samples(name: str) -> list[Sample]:
    (family,) = [one for one in every()[0].collect() if one.name == name]
    return list(family.samples)


def test_links_between_the_documents_lead_somewhere() -> None:
    for path in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", path.read_text(encoding="utf-8")):
            linked = (path.parent / target) if target else path
            assert linked.exists(), f"{path.name}: {target}"
            if anchor and linked.suffix == ".md":
                headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{path.name}: {target}#{anchor}"


async def test_metrics_come_in_the_format_that_is_asked_for(client: Client) -> None:
    openmetrics = "application/openmetrics-text"
    for accept, told in (("*/*", "text/plain"), (f"{openmetrics};version=1.0.0", openmetrics)):
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": accept}
        async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
            assert response.headers["Content-Type"].startswith(told)
            text = await response.text()
        assert 'inboxd_worker_restarts_total{worker="ingest"} 0.0' in text
        assert ("# EOF" in text) == (told == openmetrics)


async def test_a_daemon_has_every_instrument_once(client: Client) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": "application/openmetrics-text"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        served = re.findall(r"^# TYPE (\S+) ", await response.text(), re.MULTILINE)
    assert sorted(served) == sorted(family.name for family in every()[0].collect())


@needs_promtool
async def test_promtool_finds_nothing_wrong(client: Client) -> None:
    await asyncio.to_thread(promtool, "rules", str(ALERTS), text=b"")
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        await asyncio.to_thread(promtool, "metrics", text=await response.read())


def promtool(*what: str, text: bytes) -> None:
    done = subprocess.run(["promtool", "check", *what], input=text, capture_output=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stdout + done.stderr
