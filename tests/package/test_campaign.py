"""A small fixed sample of the attack on the public API; `campaign.py` makes all of it."""

import json
import subprocess
import sys
from pathlib import Path

import campaign
import pytest

# Functions that compile nothing, or little.
QUICK = ("SDE", "drifts", "kernels", "laws", "layers", "models", "noises", "potentials")
QUICK += ("member_keys", "schedules", "observables", "analysis.kaplan", "analysis.occupancy")
QUICK += ("training.Deep", "io.Sentence")


def sample(every):
    calls = [one for one in campaign.plan() if one[0].startswith(QUICK) and one[1] is not None]
    return calls[::every]


def test_every_public_function_has_a_valid_call_that_the_campaign_knows():
    calls = campaign.plan()
    assert len(calls) > 40_000
    assert len({one[0] for one in calls}) >= 340


def test_a_sample_of_hostile_arguments_is_refused_by_name_or_does_no_harm(unchecked):
    bad = []
    for one in sample(29):
        kind, said = campaign.call(*one)
        if kind not in {"valid", "clear"}:
            bad.append((*one, kind, said))
    assert not bad


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TypeError("float() argument must be a string"), "raw"),
        (ValueError("math domain error"), "raw"),
    ],
)
def test_an_error_from_inside_is_told_from_one_that_names_an_argument(error, kind):
    try:
        raise error
    except Exception as caught:
        assert campaign.judged(caught, "sigma")[0] == kind


@pytest.mark.slow
def test_the_campaign_runs_in_processes_of_its_own(tmp_path):
    out = tmp_path / "calls.json"
    program = Path(campaign.__file__)
    done = subprocess.run(
        [sys.executable, program, "--only", "schedules", "--workers", "1", "--out", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert len(rows) > 100 and {row[3] for row in rows} == {"valid", "clear"}
