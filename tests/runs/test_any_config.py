"""Whatever a config says, it is run or refused by an error of its own kind."""

import json

import hypothesis
import numpy as np
import pytest
import xarray
from hypothesis import strategies as st
from rich.console import Console

import rqf_jax as rqf
from rqf_jax import _store, io
from rqf_jax.runs import catalogue, config, ensemble as runs, figures

SCHEMA = config.Config.model_json_schema()
DEFS = SCHEMA["$defs"]
CHOICES = {
    kind.__name__: [section.model_json_schema() for section in kind.known.values()]
    for kind in (catalogue.AbstractModel, catalogue.AbstractLaw)
}
# Few that are impossible: a config has some ten numbers, and one is enough to refuse it.
FLOATS = st.sampled_from([0.1, 0.3, 0.5, 1.0, 2.0, 0.2, 0.4, 0.7, 0.0, 1e-200, 1e200, -0.5])
INTS = st.sampled_from([2, 3, 4, 5, 2, 3, 4, 5, 2, 3, 4, 5, 1, 0])


def values(schema):
    """Values that have the types of a schema, and mostly the ranges."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.one_of(map(values, CHOICES[name])) if name in CHOICES else values(DEFS[name])
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return st.one_of([values(s) for s in schema[choices] if s.get("type") != "null"])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object":
            return sections(schema)
        case "array":
            items = values(schema.get("items", {}))
            return st.lists(items, min_size=schema.get("minItems", 0), max_size=3)
        case "number":
            return FLOATS
        case "integer":
            return INTS
        case "string":
            return st.sampled_from(["some", "overlaps", "log_det_gram", "state", "spectrum"])
    return st.integers(0, 3)


def sections(schema):
    required = {
        n: values(s) for n, s in schema["properties"].items() if n in schema.get("required", ())
    }
    others = {n: values(s) for n, s in schema["properties"].items() if n not in required}
    return st.fixed_dictionaries(required, optional=others)


REPORTS = st.sampled_from([{}, {"angle_time": 0.1}, {"log_det_times": [0.1], "angle_pair": [1, 0]}])
TABLES = st.fixed_dictionaries(
    {name: values(SCHEMA["properties"][name]) for name in ("run", "model", "law")}
    | {
        "times": st.sampled_from(
            [{"stop": 0.1, "points": 3}, {"values": [0.0, 0.1, 0.5]}, {"stop": 1e-30, "points": 2},
             {"stop": 3.0}, {"values": [1.0, 1.0]}]
        )
    },
    optional={"report": st.one_of(REPORTS, values(SCHEMA["properties"]["report"]))}
    | {"companion": values(SCHEMA["properties"]["companion"])},
)  # fmt: skip


def toml(table):
    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in section.items())
        for name, section in table.items()
    )


LARGE = {
    "run": {"members": 2, "substeps": 2, "coordinates": "full"},
    "times": {"stop": 0.1, "points": 3},
    "model": {"name": "mlp_flow", "activation": "tanh", "bias_in": 1e200},
    "law": {"name": "uniform", "tokens": 2, "dim": 3},
}  # found by the test below: its square is no number


SMALL = LARGE | {
    "model": {"name": "random_quadratic_form", "sigma": 0.5},
    "run": {"members": 2, "substeps": 2},
}


@pytest.mark.parametrize(
    ("section", "key", "value", "rule"),
    [
        ("run", "members", 5_000_000_000, r"run\.members: must be less than 4294967296; got 50000"),
        ("run", "substeps", 2**30, r"run\.substeps must make fewer than 2³¹ steps in 2 intervals"),
    ],
)
def test_what_only_the_engine_refuses_is_an_error_of_the_config_by_its_key(
    tmp_path, section, key, value, rule
):
    table = SMALL | {section: SMALL[section] | {key: value}}
    with pytest.raises(config.ConfigError, match=rule):
        runs.EnsembleJob.of(config.parse(toml(table)))


@pytest.mark.filterwarnings("ignore")
@hypothesis.example(LARGE)
@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
@hypothesis.given(TABLES)
def test_a_config_is_understood_or_refused_before_anything_is_compiled(table):
    try:
        job = runs.EnsembleJob.of(config.parse(toml(table)))
    except (config.ConfigError, io.DataFileError) as error:
        hypothesis.event(type(error).__name__)
        return
    hypothesis.event("understood")
    assert config.parse(job.text).toml() == job.text


ALONE = SMALL | {"run": {"members": 1, "substeps": 2}}  # found by the test below


def test_a_run_of_one_member_has_no_figure_of_means():
    overlaps = (("member", "time", "pair"), np.zeros((1, 3, 1)))
    one = config.parse(toml(ALONE))
    attributes = {"config": toml(ALONE), "tokens": ["0", "1"], "dim": 3}
    dataset = xarray.Dataset({"overlaps": overlaps}, {"time": [0.0, 0.05, 0.1]}, attributes)
    assert figures.figures(dataset, one, one.model.closed_forms(3)) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@hypothesis.example(ALONE)
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(TABLES)
def test_a_config_runs_or_is_refused(tmp_path_factory, table):
    out = tmp_path_factory.mktemp("any") / "run.zarr"
    console = Console(quiet=True)
    try:
        one = config.parse(toml(table))
        runs.run(one, out, force=False, console=console)
    except (config.ConfigError, io.DataFileError, rqf.NonFiniteError) as error:
        hypothesis.event(type(error).__name__)
        assert not out.exists() and _store.Draft.find(out) is None
        return
    hypothesis.event("ran")
    with rqf.open(out) as run:
        assert run.sizes["member"] == one.run.members
        assert not np.any(np.isinf(run.time))
