"""An ensemble as a labelled dataset, with observables of it."""

import jax
import numpy as np
import pytest

import rqf_jax as rqf


@pytest.fixture(scope="module")
def runs():
    sde, law = rqf.models.random_quadratic_form(0.8), rqf.laws.Uniform(3, 4)
    return rqf.simulate(sde, law, [0.0, 0.5, 1.0], substeps=2, members=5, key=jax.random.key(0))


def test_observables_enter_the_dataset_and_the_store_on_request(runs, tmp_path):
    named = {"order": rqf.observables.polar_order, "overlaps": rqf.observables.overlaps}
    dataset = runs.to_xarray({"overlaps": ("pair",)}, observables=named)
    assert dataset["order"].dims == ("member", "time")
    assert dataset["overlaps"].dims == ("member", "time", "pair")
    for name, observable in named.items():
        np.testing.assert_array_equal(dataset[name], runs.observe(observable))
    assert set(runs.to_xarray().data_vars) == {"state", "status"}
    rqf.io.save_dataset(dataset, tmp_path / "run.zarr", attributes={})
    with rqf.open(tmp_path / "run.zarr") as again:
        np.testing.assert_array_equal(again.order, dataset.order)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda runs: runs.observe(3), "`observable` must be a function of one saved value; got 3"),
        (
            lambda runs: runs.observe(rqf.observables.spectrum),
            r"`observable` must take float64 \(3, 4\).*`x` must be a square matrix",
        ),
        (
            lambda runs: runs.observe(lambda x: x[0] + x[:, 0]),
            r"`observable` must take float64 \(3, 4\); it raised",
        ),
        (
            lambda runs: runs.to_xarray(observables={"values": rqf.observables.spectrum}),
            r"`observables\['values'\]` must take float64 \(3, 4\)",
        ),
        (lambda runs: runs.to_xarray(observables=3), "`observables` must be a dict.*got 3"),
        (lambda runs: runs.to_xarray("state"), "`dims` must be a dict.*got 'state'"),
        (lambda runs: runs.to_xarray({"state": 3}), r"`dims\['state'\]` must be.*got 3"),
    ],
)
def test_errors_name_the_argument_of_the_method_that_was_called(runs, call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(runs)


@pytest.mark.parametrize("name", ["state", "status", "time", "member"])
def test_an_observable_does_not_take_the_name_of_another_variable(runs, name):
    with pytest.raises(
        ValueError, match=f"`observables` must have names of their own; got '{name}'"
    ):
        runs.to_xarray(observables={name: rqf.observables.polar_order})


def test_a_notebook_shows_ensembles_and_fits_as_short_tables():
    ys = {"q": jax.numpy.zeros((2, 3, 4)), "<p>": jax.numpy.zeros((2, 3))}
    runs = rqf.Trajectories(np.array([0.0, 0.5, 1.0]), ys, jax.numpy.array([0, 2]))
    shown = runs._repr_html_()
    for words in ("float64[4]", "3, from 0 to 1", "&lt;p&gt;", "<td>1</td>"):
        assert words in shown
    rates, sizes = np.array([0.1, 0.2, 0.1, 0.2]), np.array([8, 8, 32, 32])
    fit = rqf.inference.fit_scaling(3.0 * rates / sizes, 1000, rates, sizes)
    assert "learning_rate" in fit._repr_html_() and "1 ± " in fit._repr_html_()
