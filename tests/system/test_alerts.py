"""The alert rules: each one fires when it should, and none while all is well."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

RULES = Path(__file__).parent.parent.parent / "k8s" / "alerts.yaml"
WELL = {
    "gateway_build_info": "1x60",
    'gateway_request_seconds_count{route="events",status="204"}': "0+600x60",
    'gateway_request_seconds_count{route="events",status="503"}': "0+1x60",
    'gateway_missing_events_total{destination="dub"}': "0x60",
    'gateway_retention_left_seconds{destination="dub"}': "604800x60",
    'gateway_buffer_oldest_event_age_seconds{destination="dub"}': "2x60",
    'gateway_breaker_open{destination="dub"}': "0x60",
    'gateway_dead_letters_total{destination="dub",reason="refused"}': "7x60",
    'gateway_dead_letters_total{destination="ingest",reason="wrong_type"}': "0+1x60",
    'gateway_events_total{site="shop",type="cart",outcome="accepted"}': "0+100x60",
    'gateway_events_total{site="shop",type="cart",outcome="rejected"}': "0+1x60",
    'gateway_hooks_total{source="mail",outcome="taken"}': "0+10x60",
    'gateway_hooks_total{source="mail",outcome="wrong_signature"}': "0x60",
    'gateway_polls_total{source="mail",outcome="failed"}': "0x60",
}
"""An hour of a gateway that works: a sample a minute."""
ILL = {
    "GatewayMissing": {"gateway_build_info": "_x60"},
    "GatewayRefusesEvents": {
        'gateway_request_seconds_count{route="events",status="503"}': "0+60x60"
    },
    "GatewayEventsMissing": {'gateway_missing_events_total{destination="dub"}': "0x40 3x20"},
    "GatewayRetentionShort": {'gateway_retention_left_seconds{destination="dub"}': "80000-60x60"},
    "GatewayDestinationBehind": {
        'gateway_buffer_oldest_event_age_seconds{destination="dub"}': "0+60x60"
    },
    "GatewayDestinationPaused": {'gateway_breaker_open{destination="dub"}': "1x60"},
    "GatewayEventsBuried": {
        'gateway_dead_letters_total{destination="dub",reason="refused"}': "7x55 8x5"
    },
    "GatewayEventsRejected": {
        'gateway_events_total{site="shop",type="cart",outcome="rejected"}': "0+20x60"
    },
    "GatewayMailNotTaken": {
        'gateway_hooks_total{source="mail",outcome="wrong_signature"}': "0+1x60"
    },
}
"""What is different when an alert should fire."""

Needs = Callable[[str], str]


def judged(promtool: str, folder: Path, series: dict[str, str], firing: set[str]) -> str:
    """Return what promtool has against it that just those alerts fire at the end of the hour."""
    samples = [{"labels": f'{{alertname="{each}"}}', "value": 1} for each in sorted(firing)]
    expected = {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": "59m",
        "exp_samples": samples,
    }
    inputs = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": [expected]}
    file = folder / "test.yaml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(json.dumps(document))  # JSON is YAML
    ran = subprocess.run(
        (promtool, "test", "rules", str(file)), capture_output=True, text=True, check=False
    )
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_promtool_takes_the_rules(needs: Needs) -> None:
    ran = subprocess.run(
        (needs("promtool"), "check", "rules", "--lint-fatal", str(RULES)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(ILL)} rules found" in ran.stdout


def test_no_alert_fires_while_all_is_well(needs: Needs, tmp_path: Path) -> None:
    assert not judged(needs("promtool"), tmp_path, WELL, set())


@pytest.mark.parametrize("alert", ILL)
def test_each_alert_fires_alone_for_what_it_is_about(
    needs: Needs, tmp_path: Path, alert: str
) -> None:
    assert not judged(needs("promtool"), tmp_path, {**WELL, **ILL[alert]}, {alert})
