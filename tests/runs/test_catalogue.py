"""Theorems about the models of a config: their equations, and which closed forms each one has."""

import inspect
import math
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import xarray

import rqf_jax as rqf
from rqf_jax.runs import catalogue, comparison as report, figures
from rqf_jax.runs.config import parse
from rqf_jax.theory import attention, dyson, forcing, normalisation, outliers, value_noise

SYMMETRIC = [[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, -1.0]]
PARAMETERS = {
    "random_quadratic_form": "sigma = 0.5",
    "forced_rqf": "sigma = 0.5\nforcing = 0.4",
    "mlp_flow": 'activation = "tanh"\nbias_in = 0.3\nbias_out = 0.2',
    "noisy_attention": "beta = 1.0\nsigma = 1.0\nstrength = 0.5",
    "noisy_unnormalised_attention": "beta = 1.0\nsigma = 1.0\nstrength = 0.2",
    "stochastic_transformer": "beta = 0.7\nvariance = 0.8",
    "random_layers": "beta = 0.7\nvariance = 0.8",
    "normalised_layers": 'scheme = "pre"\nsigma = 0.5\nbeta = 0.3\nstrength = 0.7',
    "mean_field_attention": "beta = 1.0\ndiffusion = 0.1\nstrength = 2.0",
    "self_attention": f"beta = 1.0\nvalue = {SYMMETRIC}",
    "oja": f"value = {SYMMETRIC}",
    "dyson": "g = 0.7\nrate = 0.9",
    "dyson_eigenvalues": "g = 0.7\nrate = 0.9\nbeta = 2.5",
    "weight_ou": "s = 0.5\nrate = 0.9\nteacher = [1.5, 0.5]",
    "underdamped_langevin": (
        'potential = "quartic"\nstrength = 2.0\nfriction = 0.7\ntemperature = 0.5\nmass = 1.5'
    ),
    "heavy_ball": 'potential = "quadratic"\nstrength = 2.0\nconvexity = 0.5\nstep = 0.1',
    "nesterov": 'potential = "quadratic"\nstrength = 2.0\nconvexity = 0.5\nstep = 0.1',
    "lorenz_63": "noise = 0.3\nsigma = 9.0\nrho = 20.0\nbeta = 2.0",
    "lorenz_96": "forcing = 7.0",
    "kuramoto_sivashinsky": "advection = 5.0\ninstability = 0.3\nviscosity = 0.002",
    "rossler": "a = 0.1\nb = 0.3\nc = 5.0",
    "thomas": "friction = 0.3",
    "double_well": "noise = 0.6\nbarrier = 0.5\nposition = 1.5",
}
PAIR = 'name = "pair"\nangle = 1.0\ndim = 3'
LAWS = {
    "dyson": ("spectrum", 'name = "zeros"\nsize = 3'),
    "dyson_eigenvalues": ("spectrum", 'name = "eigenvalues"\nvalues = [-1.0, 0.0, 1.0]'),
    "weight_ou": ("singular_values", 'name = "zeros"\nsize = 3'),
    **dict.fromkeys(
        ("underdamped_langevin", "heavy_ball", "nesterov"),
        ("q", 'name = "rest"\nposition = [1.0, 0.0, 0.0]'),
    ),
}
SYSTEMS = {"lorenz_63": 3, "lorenz_96": 5, "rossler": 3, "thomas": 3, "double_well": 2}
SYSTEMS |= {"kuramoto_sivashinsky": 8}
SIZES = {"lorenz_96": "size", "kuramoto_sivashinsky": "points"}
LAWS |= {name: ("x", f'name = "normal"\nmean = {[1.0] * size}') for name, size in SYSTEMS.items()}
POTENTIALS = {"quadratic": rqf.potentials.Quadratic, "quartic": rqf.potentials.Quartic}


def model(name, parameters=None):
    """The section of a config with this model."""
    saved, law = LAWS.get(name, ("overlaps", PAIR))
    return parse(
        f"""
        [run]
        members = 8
        substeps = 2
        coordinates = "full"
        save = ["{saved}"]
        [times]
        stop = 1.0
        points = 3
        [law]
        {law}
        [model]
        name = "{name}"\n{PARAMETERS[name] if parameters is None else parameters}
        """
    ).model


def ensemble(overlaps, time, **other):
    """A stored run of two tokens with these overlaps (members, times)."""
    variables = {"overlaps": (("member", "time", "pair"), np.asarray(overlaps)[..., None]), **other}
    return xarray.Dataset(variables, {"time": time}, {"tokens": ["0", "1"]})


def rapidities(drift, variance, start, time, *, members=4000, steps=200, seed=0):
    """Members of du = drift(r) dt + √variance(r) dW by Euler's method, r = tanh u."""
    rng, u = np.random.default_rng(seed), np.full(members, math.atanh(start))
    for _ in range(steps):
        r = np.tanh(u)
        u = u + drift(r) * time / steps
        u = u + np.sqrt(variance(r) * time / steps) * rng.normal(size=members)
    return np.tanh(u)


def test_the_parameters_of_every_model_are_those_of_the_model_in_the_library():
    assert {section.model_fields["name"].annotation.__args__[0] for section in sections()} == set(
        PARAMETERS
    )
    for name in PARAMETERS.keys() - SYSTEMS.keys():
        section = model(name)
        build = getattr(rqf.models, name)
        given = {key: value for key, value in section.model_dump().items() if key != "name"}
        given = {
            key: np.asarray(value) if key == "value" else value for key, value in given.items()
        }
        if "dim" in inspect.signature(build).parameters:
            given["dim"] = 3
        if "teacher" in given:  # of which a config has the singular values
            given["teacher"] = np.diag([*given["teacher"], 0.0])
        if "potential" in given:  # of which the library takes the gradient
            given["gradient"] = POTENTIALS[given.pop("potential")](given.pop("strength")).slope
        assert eqx.tree_equal(section.sde(3), build(**given)), name


def test_the_parameters_of_every_system_are_those_of_its_flow_in_the_library():
    for name, size in SYSTEMS.items():
        section = model(name)
        given = section.model_dump(exclude={"name", "noise"})
        sizes = {SIZES[name]: size} if name in SIZES else {}
        flow = getattr(rqf.systems, type(section).__name__)(**sizes, **given)
        noise = rqf.noises.TokenNoise(section.noise) if section.noise else rqf.noises.NoNoise()
        sde = rqf.SDE(flow, noise, rqf.manifolds.Euclidean())
        assert eqx.tree_equal(section.sde(size), sde), name


def sections():
    known = catalogue.AbstractModel.known.values()
    return [section for section in known if section.__module__.startswith("rqf_jax.")]


@pytest.mark.parametrize("time", [3.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_the_fate_of_two_tokens_is_a_martingale_that_a_wrong_model_is_not(time):
    cases = []
    for name, weight, strength in (
        ("noisy_attention", attention.softmax_weight, 0.5),
        ("noisy_unnormalised_attention", attention.unnormalised_weight, 0.2),
    ):
        drift = lambda r, w=weight, s=strength: attention.rapidity_drift(  # noqa: E731
            r, w, beta=1.0, strength=s, sigma=1.0
        )
        cases.append((name, drift, lambda r: 2.0 + 0 * r))
    cases.append(
        (
            "stochastic_transformer",
            lambda r: value_noise.rapidity_drift(r, beta=0.7, dim=3, sigma=0.8**0.5),
            lambda r: value_noise.rapidity_variance(r, beta=0.7, sigma=0.8**0.5),
        )
    )
    for name, drift, variance in cases:
        end = rapidities(drift, variance, 0.2, time)
        dataset = ensemble(np.stack([np.full_like(end, 0.2), end], 1), [0.0, time])
        (row,) = report.compare(dataset, model(name).closed_forms(3), labels=["0", "1"])
        assert row.quantity == "P(−)" and 0.05 < row.theory < 0.4
        assert abs(row.z) < 5, name
    # The last one under the law of a model that attends more sharply.
    if time == 3.0:
        sharper = model("stochastic_transformer", "beta = 1.6\nvariance = 0.8").closed_forms(3)
        (row,) = report.compare(dataset, sharper, labels=["0", "1"])
        assert abs(row.z) > 5


@pytest.mark.slow
def test_huge_layers_split_pairs_as_their_limit_and_attention_in_them_does_not():
    def rows(parameters, dim, time, layers):
        section = model("random_layers", parameters)
        runs = rqf.simulate(
            section.sde(dim), rqf.laws.Pair(2.0, dim), [0.0, time], substeps=layers, members=8000,
            key=jax.random.key(0), save=rqf.observables.overlaps,
        )  # fmt: skip
        dataset = ensemble(runs.ys[..., 0], [0.0, time])
        return report.compare(dataset, section.closed_forms(dim), labels=["0", "1"])

    plain = rows("", 4, 15.0, 60)
    assert [row.quantity for row in plain] == ["P(aligned)", "E G(∞)", "Var N₊"]
    assert max(abs(row.z) for row in plain) < 5
    (deep,) = rows("beta = 2.0", 8, 1.0, 200)
    (shallow,) = rows("beta = 2.0", 8, 1.0, 4)
    assert deep.quantity == "P(−)" and abs(deep.z) < 5 < abs(shallow.z)


def test_pairs_that_always_meet_have_no_row_of_their_fate():
    meet = ("noisy_attention", "beta = 0.0\nsigma = 1.0\nstrength = 1.0")
    end = np.tile([[0.2, 1.0]], (10, 1))
    for name, parameters, dim in (
        (*meet, 3),
        ("stochastic_transformer", "beta = 0.5", 8),
    ):
        forms = model(name, parameters).closed_forms(dim)
        assert report.compare(ensemble(end, [0.0, 9.0]), forms, labels=["0", "1"]) == []
        assert "always meet" in forms.notes[0]


@pytest.mark.slow
def test_only_random_quadratic_forms_are_compared_with_their_own_closed_forms():
    """The pairs, limits and volumes of `theory.sphere` hold for no other model."""
    rng = np.random.default_rng(0)
    overlaps = rng.uniform(-0.5, 0.5, size=(20, 2, 3))
    dataset = xarray.Dataset(
        {
            "overlaps": (("member", "time", "pair"), overlaps),
            "log_det_gram": (("member", "time"), rng.normal(size=(20, 2)) - 1),
        },
        {"time": [0.0, 50.0]},
        {"tokens": ["0", "1", "2"]},
    )
    for name in PARAMETERS:
        forms = model(name).closed_forms(SYSTEMS.get(name, 3))
        rows = report.compare(dataset, forms, labels=["0", "1", "2"], log_det_times=[50.0])
        assert len(rows) == (8 if name == "random_quadratic_form" else 0), name
        figure = figures._order(dataset, forms)
        dashed = [
            line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "--"
        ]
        # Two curves on each side, and below each the line where simulation and theory agree.
        assert len(dashed) == (6 if name == "random_quadratic_form" else 0), name
        assert (forms.angle_density is not None) == (name == "random_quadratic_form")


def test_close_pairs_contract_at_the_rate_of_every_model_and_while_they_are_close():
    rng, time = np.random.default_rng(0), np.array([0.0, 1.0, 2.0])
    rates = {
        "forced_rqf": 0.5**2 + 0.4**2 * (3 - 1) / 2,
        "noisy_attention": 1 + 0.5,
        "noisy_unnormalised_attention": 1 + 0.2 * math.e,
        "stochastic_transformer": 0.8 * (3 - 1) / 2,
        "mlp_flow": None,
    }
    for name, rate in rates.items():
        forms = model(name).closed_forms(3)
        if rate is None:
            kernel = rqf.kernels.MLP("tanh", 3, 0.3, 0.2)
            rate = float(kernel(1.0 + jax.numpy.zeros(())))  # (n-1) κ(1)/2 and κ' cancels at n = 3
        log_det = -9 - 2 * rate * time + rng.normal(size=(4000, 3)) * np.sqrt(time) / 2
        dataset = xarray.Dataset({"log_det_gram": (("member", "time"), log_det)}, {"time": time})
        rows = report.compare(dataset, forms, labels=["0", "1"], log_det_times=[1.0, 2.0])
        assert [row.label for row in rows] == ["at t = 1", "at t = 2"]
        assert max(abs(row.z) for row in rows) < 5, name
        far = dataset.assign(log_det_gram=dataset.log_det_gram + 6)
        assert report.compare(far, forms, labels=["0", "1"], log_det_times=[1.0]) == []
        assert report.compare(dataset, forms, labels=["0", "1", "2"], log_det_times=[1.0]) == []


@pytest.mark.slow
def test_one_token_under_forcing_forgets_its_start_at_the_rate_of_theory():
    section = model("forced_rqf")
    ts = jax.numpy.array([0.0, 1.0, 2.0])
    ran = rqf.simulate(
        section.sde(3),
        rqf.laws.Uniform(2, 3),
        ts,
        substeps=4,
        members=2000,
        key=jax.random.key(0),
    )
    dataset = xarray.Dataset(
        {"state": (("member", "time", "token", "dim"), np.asarray(ran.ys))},
        {"time": np.asarray(ts)},
    )
    rows = report.compare(
        dataset, section.closed_forms(3), labels=["0", "1"], one_point_times=[1.0, 2.0]
    )
    assert [row.quantity for row in rows] == ["E⟨x(t), x(0)⟩"] * 2
    expected = forcing.one_point_correlation(2.0, symmetric=0.5, forcing=0.4, dim=3)
    assert rows[1].theory == pytest.approx(float(expected), rel=1e-12)
    assert max(abs(row.z) for row in rows) < 5
    # Tokens of one member share their noise: the error is that of members, not of tokens.
    turned = np.einsum("mnd,mnd->mn", ran.ys[:, 1], ran.ys[:, 0]).mean(1)
    assert rows[0].stderr == pytest.approx(turned.std(ddof=1) / 2000**0.5, rel=1e-9)


@pytest.mark.slow
def test_equiangular_tokens_without_noise_follow_their_line_and_others_have_none():
    section = model("self_attention", "beta = 2.0")
    ts = np.linspace(0.0, 2.0, 5)
    ran = rqf.simulate(
        section.sde(3),
        rqf.laws.Equiangular(3, 3, 0.1),
        jax.numpy.asarray(ts),
        substeps=64,
        members=2,
        key=jax.random.key(0),
        save=rqf.observables.overlaps,
    )
    moments = section.closed_forms(3).moments
    mean, square = moments(ts, np.asarray(ran.ys[:, 0]))
    np.testing.assert_allclose(mean, ran.ys[0], atol=1e-5)
    np.testing.assert_allclose(square, ran.ys[0] ** 2, atol=1e-5)
    assert moments(ts, np.array([[0.1, 0.1, 0.2]])) is None
    assert moments(ts, np.array([[0.1], [0.2]])) is None


def test_a_matrix_of_another_size_than_the_tokens_is_refused():
    for name, key in (("oja", "value"), ("self_attention", "value")):
        with pytest.raises(ValueError, match=f"{key} must be 4 x 4 for tokens in R\\^4; got 3 x 3"):
            model(name).sde(4)
    with pytest.raises(ValueError, match="query_key must be 3 x 3 for tokens in R\\^3; got 2 x 2"):
        model("self_attention", "beta = 1\nquery_key = [[1, 0], [0, 1]]").sde(3)


@pytest.mark.parametrize("n", [2, 5])
def test_the_eigenvalues_of_a_pulled_matrix_have_their_laws_and_those_of_another_do_not(n):
    # Independent Gaussian matrices of the variance that the motion has at each time.
    rng, ts, options = np.random.default_rng(n), np.array([1.0, 1.5, 3.0]), {"g": 0.7, "rate": 0.9}
    noise = rng.standard_normal((4000, 3, n, n))
    scale = np.sqrt(2 * 0.7**2 * dyson.effective_time(ts - 1.0, 0.9))
    values = np.linalg.eigvalsh(scale[:, None, None] * (noise + np.swapaxes(noise, 2, 3)) / 2)
    dataset = xarray.Dataset(
        {"spectrum": (("member", "time", "eigenvalue"), values)}, {"time": ts}, {"tokens": []}
    )
    right = model("dyson").closed_forms(n)
    rows = report.compare(dataset, right, labels=[], spectrum_times=[1.5, 3.0])
    assert len(rows) == 2 * (6 if n == 2 else 4) and rows[0].label == "at t = 1.5"
    assert max(abs(row.z) for row in rows) < 5
    at_the_end = report.compare(dataset, right, labels=[])
    assert [row.label for row in at_the_end] == ["at t = 3"] * (6 if n == 2 else 4)
    wrong = model("dyson", "g = 0.8\nrate = 0.9").closed_forms(n)
    assert min(abs(row.z) for row in report.compare(dataset, wrong, labels=[])) > 5
    assert f"{dyson.edge(np.inf, n=n, **options):.4g}" in right.notes[0]


def spectra(values, time, name="spectrum", dim="eigenvalue"):
    """A stored run of these values (members, times, n)."""
    return xarray.Dataset({name: (("member", "time", dim), values)}, {"time": time}, {"tokens": []})


@pytest.mark.parametrize("start", [[-1.0, -0.2, 0.4, 1.5], [-0.2, 0.9]])
def test_eigenvalues_from_anywhere_have_their_laws_and_those_of_another_index_do_not(start):
    # β = 1 in one exact step of matrices.
    rng, time, n, tau = np.random.default_rng(0), 0.8, len(start), dyson.effective_time(0.8, 0.9)
    noise = rng.standard_normal((6000, n, n))
    matrices = 0.7 * math.sqrt(tau / 2) * (noise + np.swapaxes(noise, 1, 2))
    ends = np.linalg.eigvalsh(matrices + math.exp(-0.9 * time) * np.diag(start))
    run = spectra(np.stack([np.tile(start, (6000, 1)), ends], 1), [0.0, time])
    right = model("dyson_eigenvalues", "g = 0.7\nrate = 0.9").closed_forms(n)
    rows = report.compare(run, right, labels=[])
    names = ["Var Σλ", "E Σλ²", "P(Σλ² < median)", "E e₂(λ)", "E e₃(λ)", "E e₄(λ)"]
    assert [row.quantity for row in rows] == names[: 3 + n - 1]
    assert max(abs(row.z) for row in rows) < 5
    wrong = model("dyson_eigenvalues", "g = 0.7\nrate = 0.9\nbeta = 1.5").closed_forms(n)
    scores = [abs(row.z) for row in report.compare(run, wrong, labels=[])]
    assert scores[0] < 5 and min(scores[1:4]) > 5  # the trace knows nothing of the index
    expected = dyson.square_sum_mean(np.array([0.0, time]), np.sum(np.square(start)), g=0.7,
                                     rate=0.9, n=n)  # fmt: skip
    np.testing.assert_allclose(
        right.square_sum(np.array([0.0, time]), run.spectrum[:, 0]), expected
    )


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_gap_of_two_eigenvalues_from_zero_has_the_law_of_its_index(beta):
    # A chi variable with β + 1 degrees of freedom.
    rng, time = np.random.default_rng(0), 0.6
    gap = 2 * 0.7 * math.sqrt(time) * np.sqrt(rng.chisquare(beta + 1, 6000))
    middle = 0.7 * math.sqrt(time) * rng.standard_normal(6000)
    values = np.stack([middle - gap / 2, middle + gap / 2], -1)
    run = spectra(np.stack([np.zeros((6000, 2)), values], 1), [0.0, time])
    forms = model("dyson_eigenvalues", f"g = 0.7\nbeta = {beta}").closed_forms(2)
    rows = report.compare(run, forms, labels=[])
    assert [row.quantity for row in rows][-3:] == ["E Σλ⁴", "E gap", "P(gap > mean)"]
    assert max(abs(row.z) for row in rows) < 5


@pytest.mark.parametrize("teacher", [(), (1.5, 0.5)])
def test_singular_values_of_a_pulled_layer_have_their_laws_and_those_of_another_do_not(teacher):
    rng, time = np.random.default_rng(1), 1.2
    variance = 0.5**2 * dyson.effective_time(time, 0.9)
    weights = math.sqrt(variance) * rng.standard_normal((6000, 5, 3))
    for i, value in enumerate(teacher):
        weights[:, i, i] += value * (1 - math.exp(-0.9 * time))
    ends = np.linalg.svd(weights, compute_uv=False)[:, ::-1]
    run = spectra(np.stack([0 * ends, ends], 1), [0.0, time], "singular_values", "value")
    parameters = f"s = 0.5\nrate = 0.9\nteacher = {list(teacher)}"
    forms = model("weight_ou", parameters).closed_forms(3, 5)
    rows = report.compare(run, forms, labels=[])
    names = ["E Σσ²", "P(Σσ² < median)", "E Σσ⁴", "E ln det WᵀW"]
    assert [row.quantity for row in rows] == (names[:3] if teacher else names)
    assert max(abs(row.z) for row in rows) < 5
    np.testing.assert_allclose(forms.square_sum([0.0, time], None), [0.0, rows[0].theory])
    wrong = model("weight_ou", parameters.replace("0.5", "0.55", 1)).closed_forms(3, 5)
    assert min(abs(row.z) for row in report.compare(run, wrong, labels=[])) > 5
    # The law of many singular values has mass one, and its edge where theirs is.
    value, density = model("weight_ou", parameters).closed_forms(30, 60).density(time)
    assert np.trapezoid(density, value) == pytest.approx(1, abs=2e-3)
    assert value[-1] == pytest.approx(math.sqrt(variance) * (30**0.5 + 60**0.5))


def test_the_law_of_the_bulk_has_the_area_of_the_values_that_a_teacher_leaves_in_it():
    rng, end, teacher = np.random.default_rng(2), 4.0, [5.0, 4.0]
    forms = model("weight_ou", f"s = 0.2\nrate = 0.5\nteacher = {teacher}").closed_forms(20, 40)
    value, density = forms.density(end)
    weights = 0.2 * math.sqrt(dyson.effective_time(end, 0.5)) * rng.standard_normal((500, 40, 20))
    for i, strength in enumerate(teacher):
        weights[:, i, i] += strength * (1 - math.exp(-0.5 * end))
    found = np.linalg.svd(weights, compute_uv=False)
    # Between the edge of the bulk and the outliers, which are far above it.
    inside = np.mean(found < value[-1] * 1.2)
    assert np.trapezoid(density, value) == pytest.approx(18 / 20, abs=2e-3)
    assert inside == pytest.approx(18 / 20, abs=5e-3)
    early = forms.density(0.01)  # before the teacher shows
    assert np.trapezoid(early[1], early[0]) == pytest.approx(1, abs=2e-3)


def test_a_teacher_shows_at_its_time_or_never():
    strong = model("weight_ou", "s = 0.2\nrate = 0.5\nteacher = [2.5]").closed_forms(20, 40)
    time = outliers.rectangular_emergence_time(2.5, s=0.2, rate=0.5, rows=40, columns=20)
    assert f"shows at t = {time:.4g}." in strong.notes[0]
    weak = model("weight_ou", "s = 1.0\nrate = 0.5\nteacher = [2.5]").closed_forms(20, 40)
    assert "shows never" in weak.notes[0]
    assert model("weight_ou", "s = 1.0").closed_forms(20, 40).notes == ()
    with pytest.raises(ValueError, match="teacher must have at most 1 singular values"):
        model("weight_ou").sde(1)


@pytest.mark.slow
def test_tokens_without_noise_end_in_stable_splits_and_not_in_those_of_another_model():
    text = (Path(__file__).parents[2] / "configs" / "multistability.toml").read_text()
    section = parse(text).model
    runs = rqf.simulate(
        section.sde(3), rqf.laws.Uniform(6, 3), [0.0, 60.0], substeps=300, members=300,
        key=jax.random.key(0), save=rqf.observables.overlaps,
    )  # fmt: skip
    labels, time = list("abcdef"), [0.0, 60.0]
    dataset = xarray.Dataset(
        {"overlaps": (("member", "time", "pair"), np.asarray(runs.ys))}, {"time": time}
    )
    forms = section.closed_forms(3)
    (row,) = report.compare(dataset, forms, labels=labels)
    assert (row.quantity, row.simulation, row.z) == ("P(stable split)", 1.0, 0.0)
    assert forms.stable_split(6, 0) and forms.stable_split(3, 3) and not forms.stable_split(5, 1)
    # With its attention turned round, only one of these fates is stable.
    other = section.model_copy(update={"beta": -section.beta}).closed_forms(3)
    (row,) = report.compare(dataset, other, labels=labels)
    assert row.z < -5


@pytest.mark.parametrize("scheme, square", [("pre", 1 + 0.25 * 3 * 2), ("peri", 3), ("post", 1)])
def test_normalised_layers_know_their_squared_radius(scheme, square):
    forms = model("normalised_layers", f'scheme = "{scheme}"\nsigma = 0.5').closed_forms(3)
    assert forms.means["squared_radii"](2.0) == pytest.approx(square)
    rate = normalisation.exponent(scheme, 3)
    assert ("Close tokens part" in forms.notes[0]) == (rate > 0)
    assert not model("normalised_layers").closed_forms(3).means
