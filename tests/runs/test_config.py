from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from rqf_jax.runs import catalogue
from rqf_jax.runs.config import ConfigError, parse, read

CONFIGS = Path(__file__).parents[2] / "configs"

SMALL = """
[run]
members = 8
substeps = 2
[times]
stop = 1.0
points = 3
[model]
name = "random_quadratic_form"
sigma = 0.5
[law]
name = "pair"
angle = 1.0
dim = 3
"""


def complaint(*overrides, text=SMALL):
    with pytest.raises(ConfigError) as info:
        parse(text, overrides)
    return str(info.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_a_config_with_its_defaults_written_out_is_the_same_config(path):
    complete = read(path)
    assert parse(complete.toml()) == complete
    assert parse(complete.toml()).toml() == complete.toml()


@given(
    angle=st.floats(0, 3.14),
    seed=st.integers(0, 2**32 - 1),
    tokens=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.integers(0, 9)),
)
def test_numbers_and_texts_survive_the_way_through_toml(angle, seed, tokens):
    law = catalogue.PairLaw(name="pair", angle=angle, dim=3)
    pair = (*tokens, 0, "1")[:2]
    complete = parse(SMALL).model_copy(
        update={
            "law": law,
            "run": catalogue.Run(seed=seed, members=1, substeps=1),
            "report": catalogue.Report(angle_pair=pair),
        }
    )
    assert parse(complete.toml()) == complete


def test_defaults_are_filled_in():
    complete = parse(SMALL)
    assert complete.run.seed == 0 and complete.run.save == ("overlaps", "log_det_gram")
    assert complete.times.grid().tolist() == [0.0, 0.5, 1.0]
    assert complete.companion is None
    assert 'keep = "trajectories"' in complete.toml()


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        parse(SMALL).run.seed = 1


def test_every_key_is_documented():
    sections = [catalogue.Run, catalogue.Times, catalogue.Report, catalogue.Companion]
    sections += [*catalogue.AbstractModel.known.values(), *catalogue.AbstractLaw.known.values()]
    assert len(set(sections)) == 35
    for section in sections:
        assert section.__doc__
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name}"


def test_an_override_is_a_toml_value_or_a_bare_word():
    changed = parse(
        SMALL,
        [
            "model.sigma=2",
            "run.coordinates=full",
            'run.save=["angles"]',
            "report.angle_pair = [1, 0]",
            "companion.tokens=12",
        ],
    )
    assert changed.model.sigma == 2.0 and changed.run.coordinates == "full"
    assert changed.run.save == ("angles",) and changed.report.angle_pair == (1, 0)
    assert changed.companion == catalogue.Companion(tokens=12)


def test_a_relative_path_starts_at_the_config_and_in_an_override_at_the_working_directory(tmp_path):
    text = SMALL.replace(
        'name = "pair"\nangle = 1.0\ndim = 3', 'name = "hidden_states"\nfile = "a"'
    )
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert read(path).law.file == str(tmp_path / "a")
    assert read(path, ["law.file=b/c.npz"]).law.file == "b/c.npz"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.memebers=3", "run.memebers: unknown key. Did you mean members? Keys here: seed, mem"),
        (
            "extra.x=1",
            "extra: unknown key. Keys here: run, sweep, times, model, law, report, companion.",
        ),
        ("law.dime=1", "law.dime: unknown key. Did you mean dim? Keys here: name, angle, dim."),
        ("companion={}", "companion.tokens: missing. Keys here: tokens."),
        ("run.members=0", "run.members: must be greater than or equal to 1; got 0."),
        ("run.members=2.5", "run.members: must be a valid integer; got 2.5."),
        ("run.members=true", "run.members: must be a valid integer; got True."),
        ("run.seed=-1", "run.seed: must be greater than or equal to 0; got -1."),
        ("run.seed=4294967296", "run.seed: must be less than 4294967296"),
        ("run.coordinates=polar", "run.coordinates: must be 'overlaps' or 'full'; got 'polar'."),
        ('run.save=["spectra"]', "run.save[0] must be one of state, overlaps,"),
        ("run.save=[]", "run.save: must have at least 1 item; got []."),
        ("model.sigma=-1", "model.sigma: must be greater than or equal to 0; got -1."),
        ("model.sigma=nan", "model.sigma: must be a finite number; got nan."),
        ("model.sigma='1'", "model.sigma: must be a valid number; got '1'."),
        (
            "model.name=ising",
            "model.name: must be one of underdamped_langevin, heavy_ball, nesterov",
        ),
        ("model.sgma=1", "model.sgma: unknown key. Did you mean sigma? Keys here: name, sigma."),
        ("model.name=noisy_attention", "model.beta: missing. Keys here: name, beta, sigma, str"),
        ('model={name="mlp_flow", activation="elu"}', "model.activation: must be 'relu', 'tanh'"),
        ('model={name="oja", value=[[1, 2]]}', "model.value: must be a square matrix, row by row;"),
        ('model={name="oja", value=[[1, "a"], [0, 1]]}', "model.value[0][1]: must be a valid numb"),
        (
            'model={name="stochastic_transformer", beta=1}',
            'run.coordinates must be "full" for stochastic_transformer, because the law of its '
            'overlaps depends on the dimension; got "overlaps".',
        ),
        (
            'model={name="oja", value=[[1.0]]}',
            'run.coordinates must be "full" for oja, because its matrices are written in those',
        ),
        ("report.one_point_times=[0.5]", 'must be empty unless run.coordinates is "full" and run.'),
        ("law.name=gaussian", "law.name: must be one of hidden_states, uniform, pair, equi"),
        ("law.angle=3.2", "law.angle: must be less than or equal to 3.14159"),
        ("times.values=[0, 1]", "times: must have stop and points, or values alone; got points"),
        ("times.points=1", "times.points: must be greater than or equal to 2; got 1."),
        ("report.angle_time=0.3", "report.angle_time must be one of the save times; got 0.3."),
        ("report.log_det_times=[0.5, 2]", "report.log_det_times[1] must be one of the save times"),
        ("report.angle_pair=[1.5, 0]", "report.angle_pair[0]: must be the text or the number of"),
        ("report.angle_pair=[0]", "report.angle_pair[1]: missing."),
        ("run=3", "run: must be a valid dictionary"),
    ],
)
def test_a_wrong_key_is_named_in_full_with_its_value_and_the_rule(override, message):
    text = complaint(override)
    assert text.startswith("config: 1 problem\n  ") and message in text


def test_all_problems_are_told_at_once_and_within_a_screen():
    text = complaint(text="[law]\nname = 'pair'\nangel = 1.0")
    assert text.splitlines()[0] == "config: 6 problems"
    for key in ("run: missing", "times: missing", "model: missing", "law.angle: missing"):
        assert key in text
    assert "law.angel: unknown key. Did you mean angle?" in text
    assert "law.name: missing; must be one of hidden_states, uniform" in complaint(text="law.x=1")


def test_times_must_increase():
    text = SMALL.replace("stop = 1.0\npoints = 3", "values = [0.0, 1.0, 1.0]")
    assert "times: values must increase; got 1.0 then 1.0 at index 1." in complaint(text=text)


@pytest.mark.parametrize(
    "override", ["model.sigma", "=3", "a..b=3", "model.sigma=[1,", "run.x y=2"]
)
def test_an_override_that_cannot_be_understood_is_quoted(override):
    assert override in complaint(override) or "unknown key" in complaint(override)


def test_an_override_cannot_go_through_a_value():
    assert "--set run.seed.x=1: must look like section.key=value" in complaint("run.seed.x=1")
    with pytest.raises(ConfigError, match="law is a value, not a section"):
        parse("law = 3", ["law.dim=3"])


def test_a_file_that_is_missing_or_is_not_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("members = = 3")
    with pytest.raises(ConfigError, match=r"bad\.toml: not TOML"):
        read(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"bytes\.toml: a config must be UTF-8 text"):
        read(tmp_path / "bytes.toml")


def test_a_matrix_starts_at_zero_and_has_a_spectrum_and_tokens_do_not():
    dyson = ["model={name='dyson', g=1.0}", "law={name='zeros', size=4}", "run.coordinates=full"]
    kept = 'run.save=["spectrum"]'
    assert parse(SMALL, [*dyson, kept]).law == catalogue.ZerosLaw(name="zeros", size=4)
    assert "run.save[0] must be spectrum; got 'overlaps'" in complaint(
        *dyson, 'run.save=["overlaps"]'
    )
    assert "run.save[0] must be one of state, overlaps" in complaint(kept)
    assert (
        'law must draw square matrices for dyson, as do zeros; got name = "pair", angle = 1.0'
        in complaint(dyson[0], kept)
    )
    assert "law must draw tokens for random_quadratic_form, as do hidden_states, uni" in complaint(
        dyson[1]
    )
    assert "companion must be left out for dyson" in complaint(*dyson, kept, "companion.tokens=4")
    assert 'run.coordinates must be "full" for dyson' in complaint(*dyson[:2], kept)
    assert "rows = 5, which draws matrices" in complaint(*dyson, kept, "law.rows=5")


def test_a_layer_has_rows_and_singular_values_and_eigenvalues_are_in_order():
    layer = [
        "model={name='weight_ou', s=1.0}",
        "law={name='zeros', size=4, rows=6}",
        "run.coordinates=full",
    ]
    kept = 'run.save=["singular_values"]'
    assert parse(SMALL, [*layer, kept]).law == catalogue.ZerosLaw(name="zeros", size=4, rows=6)
    assert "run.save[0] must be singular_values; got 'spectrum'" in complaint(
        *layer, 'run.save=["spectrum"]'
    )
    assert "rows must be at least size, 4; got 3: transpose" in complaint(
        *layer, kept, "law.rows=3"
    )
    gas = [
        "model={name='dyson_eigenvalues', g=1.0, beta=2.5}",
        "law={name='eigenvalues', values=[-1.0, 0.5]}",
        "run.coordinates=full",
        'run.save=["spectrum"]',
    ]
    assert parse(SMALL, gas).law.values == (-1.0, 0.5)
    assert "law.values: must be strictly ascending; got 1.0 then 1.0 at index 0" in complaint(
        *gas, "law.values=[1.0, 1.0]"
    )
    assert "model.beta: must be greater than or equal to 1" in complaint(*gas, "model.beta=0.5")
    assert (
        'law must draw eigenvalues for dyson_eigenvalues, as do eigenvalues; got name = "zeros"'
        in complaint(*gas, "law={name='zeros', size=2}")
    )
