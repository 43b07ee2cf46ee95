"""Untrained networks on disk: configs, files, the networks of `propagate`, theory and figures."""

import json

import jax
import numpy as np
import pytest
from _stores import Killed, contents, killed_before, simulated
from test_training_runs import main_

import rqf_jax as rqf
from rqf_jax.laws import AbstractLaw
from rqf_jax.runs import catalogue, config, look, template
from rqf_jax.runs.config import ConfigError
from rqf_jax.runs.problem import Poser
from rqf_jax.theory import initialisation

GPT2 = """
[run]
members = 24
chunk = 8
[architecture]
name = "gpt2"
dim = 16
layers = 3
heads = 2
tokens = 5
"""
JSON = {"model_type": "gpt2", "n_embd": 16, "n_layer": 3, "n_head": 2, "n_inner": None}


class Start(AbstractLaw):
    """The tokens with which the networks of a run begin."""

    process: rqf.training.AbstractProcess

    def __call__(self, key):
        return self.process.start(key)


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(look, "draw", lambda *_: None)


def test_a_run_holds_the_networks_of_propagate(undrawn, tmp_path):
    simulated(tmp_path / "run.zarr", text=GPT2)
    one = config.parse(GPT2)
    model = initialisation.gpt2(dim=16, layers=3, heads=2)
    assert one.architecture.untrained() == model
    known = rqf.propagate(
        rqf.layers.transformer(model), Start(Poser().learning(one).process), 3, members=24,
        key=jax.random.key(0), save=rqf.observables.radii,
    )  # fmt: skip
    with rqf.open(tmp_path / "run.zarr") as stored:
        np.testing.assert_allclose(stored.radii, known.ys, rtol=1e-12)
        np.testing.assert_array_equal(stored.time, [0, 1, 2, 3])
        squares = np.mean(np.asarray(stored.radii) ** 2, axis=2)
        np.testing.assert_allclose(np.asarray(stored.rms_norm) ** 2, squares, rtol=1e-12)


@pytest.mark.parametrize("name", ["gpt2", pytest.param("bert", marks=pytest.mark.slow)])
def test_means_are_those_of_networks_that_are_drawn_without_weights(name):
    text = GPT2.replace('"gpt2"', f'"{name}"').replace("members = 24", "members = 400")
    one = config.parse(text, ["tokens=4"])
    problem, model = Poser().problem(one), one.architecture.untrained()
    found = rqf.training.train(
        problem.process, one.grid(), seeds=400, key=problem.key, save=problem.look
    ).ys["mean_cosine"]
    cosines, _ = initialisation.scatter(model, tokens=4, seeds=400, seed=1)
    error = np.sqrt((np.var(found, axis=0) + np.var(cosines, axis=0)) / 400)
    assert np.all(np.abs(np.mean(found, axis=0) - cosines.mean(0)) < 5 * error)


def test_networks_killed_at_a_write_end_bit_for_bit_as_those_that_were_not(undrawn, tmp_path):
    simulated(whole := tmp_path / "whole.zarr", text=GPT2)
    out = tmp_path / "run.zarr"
    with killed_before(lambda i, _: i == 14), pytest.raises(Killed):
        simulated(out, text=GPT2)
    assert "Continuing" in simulated(out, text=GPT2)
    assert contents(out) == contents(whole)


def test_a_file_of_a_model_stands_for_its_numbers_and_every_block_is_compared(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(JSON))
    sizes = 'name = "gpt2"\ndim = 16\nlayers = 3\nheads = 2'
    text = GPT2.replace(sizes, 'file = "config.json"\nlayers = 2')
    (tmp_path / "own.toml").write_text(text)
    one = config.read("own.toml", ["heads=4"])
    assert one.architecture.untrained() == initialisation.gpt2(dim=16, layers=2, heads=4)
    assert config.parse(one.toml()) == one
    main_(["run", "own.toml"])
    # The run knows its numbers by itself.
    (tmp_path / "config.json").unlink()
    main_(["plot", "runs/own.zarr"])
    rows = (tmp_path / "runs/own/comparison.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3 and "after 2 blocks" in rows[3]
    assert (tmp_path / "runs/own/blocks.png").exists()


@pytest.mark.parametrize("name", catalogue.names(catalogue.AbstractArchitecture))
def test_a_new_config_of_an_architecture_is_read_and_posed(name):
    one = config.parse(template.config(name))
    assert config.parse(one.toml()) == one
    known = one.architecture.untrained()
    assert getattr(initialisation, name).__name__ == name and known.layers == len(one.grid()) - 1
    assert Poser().problem(one).outputs()["radii"].shape == (known.layers + 1, 64)


@pytest.mark.parametrize(
    "changes, rule",
    [
        (["heads=3"], r"architecture\.heads must divide dim = 16; got 3"),
        (["activation=sine"], r"architecture\.activation must be one of gelu"),
        (["run.save=['loss']"], r"run\.save\[0\] must be one of mean_cosine"),
        (["window=3"], "window"),
    ],
)
def test_networks_that_are_not_possible_are_refused_by_their_keys(changes, rule):
    with pytest.raises(ConfigError, match=rule):
        Poser().problem(config.parse(GPT2, changes))
    gemma = GPT2.replace('"gpt2"', '"gemma2"\ninner = 8\nwindow = 4')
    with pytest.raises(ConfigError, match=r"architecture\.tokens must be at most 4.*got 5"):
        Poser().problem(config.parse(gemma))


def test_a_file_that_is_no_model_is_named(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[run]\nmembers = 8\n[architecture]\nfile = "config.json"\n')
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ConfigError, match=r"architecture\.file: .*model_type of gpt2.*got 't5'"):
        config.read(path)
