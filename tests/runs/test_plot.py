"""Theorems about what is drawn."""

import math

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from rqf_jax import plot

TS = np.linspace(0.0, 2.0, 9)
VALUES = np.random.default_rng(0).normal(size=(50, 9))


@pytest.fixture
def ax():
    """An axis that pyplot does not know."""
    return Figure().add_subplot()


def unit(shape, seed=0):
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


SPREAD = ["half of the members", "90 % of the members"]


def names(ax):
    """The entries of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def draw_everything(ax=None):
    return [
        plot.fan(TS, VALUES, ax=ax, theory=np.cos(TS), label="a", ylabel="y"),
        plot.mean_lines(TS, {"a": VALUES}, ax=ax, theory={"a": np.cos(TS)}, ylabel="y"),
        plot.angle_histogram([0.3, 1.0], ax=ax, density=np.sin, label="a"),
        plot.sphere(unit((4, 5, 3)), ax=ax),
        plot.spectrum([-0.5, 1.0], ax=ax, edge=2.0, label="a"),
        plot.error_band(TS, np.cos(TS), 0.1 * TS, ax=ax, label="a"),
        plot.error_bars(TS, np.cos(TS), 0.1 * TS, ax=ax, label="a"),
    ]


def spans(ax):
    """Lower and upper edges of the filled bands, as arrays over TS."""
    edges = []
    for band in ax.collections:
        if not band.get_paths():  # only an entry of the legend
            continue
        vertices = band.get_paths()[0].vertices
        at = [vertices[np.isclose(vertices[:, 0], t), 1] for t in TS]
        edges.append(([v.min() for v in at], [v.max() for v in at]))
    return edges


def test_the_axis_given_is_the_axis_returned_and_pyplot_gains_no_figure(ax):
    before = plt.get_fignums()
    assert all(drawn is ax for drawn in draw_everything(ax))
    assert plt.get_fignums() == before


def test_without_an_axis_each_function_makes_one_figure_of_its_own():
    drawn = draw_everything()
    figures = {id(axis.figure) for axis in drawn}
    for axis in drawn:
        axis.figure.draw_without_rendering()
        plt.close(axis.figure)
    assert len(figures) == len(drawn)


def test_drawing_leaves_rcparams_alone_and_style_restores_them(ax):
    before = dict(matplotlib.rcParams)
    draw_everything(ax)
    assert dict(matplotlib.rcParams) == before
    with plot.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
        for axis in draw_everything():
            axis.figure.draw_without_rendering()
            plt.close(axis.figure)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray, lambda x: np.asarray(x).tolist()])
def test_fan_draws_the_mean_and_bands_with_half_and_nine_tenths_of_the_members(ax, convert):
    plot.fan(convert(TS), convert(VALUES), ax=ax)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), TS)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), VALUES.mean(0), rtol=1e-12)
    for (low, high), (lower, upper) in zip(((0.25, 0.75), (0.05, 0.95)), spans(ax), strict=True):
        np.testing.assert_allclose(lower, np.quantile(VALUES, low, 0), rtol=1e-12)
        np.testing.assert_allclose(upper, np.quantile(VALUES, high, 0), rtol=1e-12)


def test_fan_draws_the_theory_it_is_given_dashed_and_above_the_mean(ax):
    plot.fan(TS, VALUES, ax=ax, theory=np.cos(TS), label="simulation", ylabel="order")
    mean, theory = ax.lines
    np.testing.assert_array_equal(theory.get_ydata(), np.cos(TS))
    assert theory.get_linestyle() == "--"
    assert theory.get_zorder() > mean.get_zorder()
    assert names(ax) == ["simulation", "theory", *SPREAD]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time $t$ (dimensionless)", "order")


def test_two_fans_on_one_axis_have_two_colours_and_one_legend_entry_for_theory(ax):
    for label in ("a", "b"):
        plot.fan(TS, VALUES, ax=ax, theory=np.cos(TS), label=label)
    assert ax.lines[0].get_color() != ax.lines[2].get_color()
    assert names(ax) == ["a", "b", "theory", *SPREAD]


def test_mean_lines_draws_means_in_bands_of_one_standard_error_and_the_theory(ax):
    plot.mean_lines(TS, {"a": VALUES, "b": VALUES + 3}, theory={"b": np.cos(TS)}, ax=ax)
    error = VALUES.std(0, ddof=1) / math.sqrt(len(VALUES))
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    for line, (lower, upper), shift in zip(solid, spans(ax), (0, 3), strict=True):
        np.testing.assert_allclose(line.get_ydata(), VALUES.mean(0) + shift, rtol=1e-12)
        np.testing.assert_allclose(np.subtract(upper, lower), 2 * error, rtol=1e-9)
        np.testing.assert_allclose(np.add(upper, lower) / 2, line.get_ydata(), rtol=1e-9)
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    np.testing.assert_array_equal([line.get_ydata() for line in dashed], [np.cos(TS)])
    assert names(ax) == ["a", "b", "theory", "± 1 standard error"]


def test_differences_show_simulation_minus_theory_in_the_same_bands(ax):
    below = Figure().add_subplot()
    theory = {"b": np.cos(TS)}
    plot.mean_lines(TS, {"a": VALUES, "b": VALUES}, theory=theory, ax=ax, differences=below)
    error = VALUES.std(0, ddof=1) / math.sqrt(len(VALUES))
    ((lower, upper),) = spans(below)
    np.testing.assert_allclose(lower, VALUES.mean(0) - np.cos(TS) - error, rtol=1e-9)
    np.testing.assert_allclose(upper, VALUES.mean(0) - np.cos(TS) + error, rtol=1e-9)
    solid, zero = below.lines
    assert solid.get_color() == next(x for x in ax.lines if x.get_label() == "b").get_color()
    assert not np.any(zero.get_ydata())
    assert below.get_xlabel() == "time $t$ (dimensionless)" and ax.get_xlabel() == ""


def test_mean_lines_marks_at_most_30_points_of_a_long_series_whose_line_holds_them_all(ax):
    times = np.linspace(0, 1, 301)
    plot.mean_lines(times, {"a": np.ones((2, 301))}, ax=ax)
    line = ax.lines[0]
    assert len(line.get_xdata()) == 301
    assert len(line.get_xdata()[:: line.get_markevery()]) <= 30


@pytest.mark.parametrize("draw", [plot.error_band, plot.error_bars])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_bands_and_bars_are_named_once_and_leave_the_limits_to_the_data(ax, draw, scale):
    alone = Figure().add_subplot()
    for axis, labels in ((ax, "ab"), (alone, "a")):
        axis.set(xscale=scale, yscale=scale)
        for label in labels:
            draw([1, 2], [3.0, 4.0], [[0.5, 0.2], [0.1, 1.0]], ax=axis, label=label)
    assert sorted(ax.get_legend_handles_labels()[1]) == ["a", "b", "± 1 standard error"]
    assert ax.get_xlim() == alone.get_xlim() and ax.get_ylim() == alone.get_ylim()
    low, high = alone.get_ylim()
    assert 2 < low < 2.5 and 5 < high < 6
    colours = {line.get_color() for line in ax.lines if len(line.get_xdata())}
    assert len(colours) == 2


def test_a_survival_curve_has_steps_in_its_line_and_in_its_band(ax):
    plot.error_band([0.0, 1.0, 2.0], [1.0, 0.5, 0.2], [0.0, 0.1, 0.1], ax=ax, step="post")
    assert ax.lines[0].get_drawstyle() == "steps-post"
    edge = ax.collections[0].get_paths()[0].vertices
    before = edge[np.isclose(edge[:, 0], 1.0), 1]
    assert before.max() == 1.0 and before.min() == pytest.approx(0.4)


def test_shades_of_ordered_numbers_grow_lighter():
    red, green, blue, _ = np.transpose(plot.shades(9))
    assert np.all(np.diff(0.2126 * red + 0.7152 * green + 0.0722 * blue) > 0)


@pytest.mark.parametrize("bins", [1, 7, 60])
def test_the_histogram_integrates_to_one_over_zero_to_pi(ax, bins):
    angles = np.random.default_rng(0).uniform(0, math.pi, (10, 20))
    plot.angle_histogram(angles, ax=ax, bins=bins)
    values, edges, _ = ax.patches[0].get_data()
    assert len(values) == bins
    np.testing.assert_allclose(np.sum(values * np.diff(edges)), 1, rtol=1e-12)
    assert (edges[0], edges[-1]) == (0, math.pi)
    np.testing.assert_allclose(ax.get_xticks(), [0, math.pi / 2, math.pi])


def test_the_float32_pi_belongs_to_the_histogram(ax):
    plot.angle_histogram(jnp.asarray([0.0, math.pi], jnp.float32), ax=ax, bins=2)
    np.testing.assert_allclose(ax.patches[0].get_data()[0], [1 / math.pi] * 2)


def test_a_spectrum_and_its_law_both_have_area_one(ax):
    plot.spectrum(
        np.random.default_rng(0).normal(size=(4, 50)), ax=ax, bins=9, edge=jnp.asarray(2.0)
    )
    values, walls, _ = ax.patches[0].get_data()
    assert len(values) == 9 and np.sum(values * np.diff(walls)) == pytest.approx(1)
    x, y = ax.lines[0].get_data()
    assert (x[0], x[-1]) == (-2, 2) and y.max() == pytest.approx(1 / math.pi, rel=1e-4)
    assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-3)
    plot.spectrum([1.0, 2.0], ax=ax, density=([0.0, 3.0], [0.2, 0.4]))
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.2, 0.4])


def test_a_density_given_as_function_or_arrays_is_drawn_as_it_is(ax):
    theta = np.linspace(0.1, 3.0, 50)
    plot.angle_histogram([1.0], ax=ax, density=(theta, np.sin(theta) / 2))
    plot.angle_histogram([1.0], ax=ax, density=lambda angle: jnp.sin(angle) / 2)
    arrays, function = ax.lines
    np.testing.assert_array_equal(arrays.get_xdata(), theta)
    np.testing.assert_array_equal(arrays.get_ydata(), np.sin(theta) / 2)
    x, y = function.get_data()
    np.testing.assert_allclose(y, np.sin(x) / 2, rtol=1e-12)
    np.testing.assert_allclose(np.mean(y) * math.pi, 1, rtol=1e-5)


def test_a_density_without_bound_does_not_flatten_the_histogram(ax):
    angles = np.random.default_rng(0).uniform(0, math.pi, 10_000)
    plot.angle_histogram(angles, ax=ax, bins=10, density=lambda theta: 0.1 / np.sin(theta) ** 2)
    assert ax.get_ylim()[1] < 3


def test_sphere_shows_every_token_once_inside_the_disc_with_its_own_colour(ax):
    for tokens in (3, 40):
        ax.clear()
        x = unit((tokens, 3))
        plot.sphere(x, ax=ax)
        clouds = [c for c in ax.collections if isinstance(c, PathCollection)]
        points = np.concatenate([c.get_offsets() for c in clouds])
        assert points.shape == (tokens, 2)
        assert np.max(np.linalg.norm(points, axis=1)) <= 1 + 1e-12
        colours = np.concatenate(
            [c.get_facecolors()[:, :3] for c in clouds if len(c.get_offsets())]
        )
        assert len(np.unique(colours, axis=0)) == tokens


def test_a_token_toward_the_viewer_is_opaque_at_the_centre_and_its_antipode_faded(ax):
    up, around = math.radians(35), math.radians(-50)
    eye = [math.cos(up) * math.cos(around), math.cos(up) * math.sin(around), math.sin(up)]
    plot.sphere(np.array([eye, np.negative(eye)]), ax=ax, elevation=35.0, azimuth=-50.0)
    front, back = [c for c in ax.collections if isinstance(c, PathCollection)]
    for cloud in (front, back):
        np.testing.assert_allclose(cloud.get_offsets(), np.zeros((1, 2)), atol=1e-15)
    assert front.get_facecolors()[0, 3] == 1
    assert back.get_facecolors()[0, 3] < 0.5
    assert front.get_zorder() > back.get_zorder()


def test_the_north_pole_is_above_the_centre_by_the_cosine_of_the_elevation(ax):
    plot.sphere(np.array([[0.0, 0, 1]]), ax=ax, elevation=25.0)
    cloud = next(c for c in ax.collections if isinstance(c, PathCollection))
    expected = [[0, math.cos(math.radians(25))]]
    np.testing.assert_allclose(cloud.get_offsets(), expected, atol=1e-15)


def test_trails_run_on_great_circles_from_start_rings_to_end_dots(ax):
    path = np.eye(3)[:, None, :]  # one token that visits the three axes
    plot.sphere(path, ax=ax, elevation=math.degrees(math.atan(math.sqrt(0.5))), azimuth=45.0)
    clouds = [c for c in ax.collections if isinstance(c, PathCollection)]
    rings, dots = clouds[:2], clouds[2:]
    radius = math.sqrt(2 / 3)  # the viewer sits on (1, 1, 1)
    start = np.concatenate([c.get_offsets() for c in rings])
    end = np.concatenate([c.get_offsets() for c in dots])
    np.testing.assert_allclose(np.linalg.norm([start, end], axis=-1), radius, rtol=1e-12)
    np.testing.assert_allclose(end, [[0, radius]], atol=1e-12)
    trail = [c for c in ax.collections if isinstance(c, LineCollection) and c.get_zorder() == 3]
    vertices = np.concatenate(trail[0].get_segments())
    np.testing.assert_allclose(vertices[0], start[0], atol=1e-12)
    np.testing.assert_allclose(vertices[-1], end[0], atol=1e-12)
    # the middle of the arc from e_0 to e_1 is (1, 1, 0) / √2, seen at distance 1/√3
    nearest = np.linalg.norm(vertices, axis=1).min()
    np.testing.assert_allclose(nearest, 1 / math.sqrt(3), rtol=1e-3)


def test_a_phase_diagram_has_its_first_parameter_along_x_and_its_boundary_within_view():
    x, y = [0.0, 1.0, 3.0], [10.0, 20.0]
    values = np.arange(6.0).reshape(3, 2)
    ax = plot.phase_diagram(
        x, y, values, boundary=([-5.0, 9.0], [0.0, 99.0]), xlabel="a", ylabel="b", limits=(0, 5)
    )
    image = ax.collections[0]
    np.testing.assert_array_equal(np.asarray(image.get_array()).reshape(2, 3), values.T)
    assert image.get_clim() == (0, 5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    under, line = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), under.get_xydata())
    assert names(ax) == ["theory"]
    plt.close("all")


def test_a_phase_diagram_draws_no_cell_beyond_the_parameters_that_were_tried():
    sigma, beta = np.linspace(0.0, 1.5, 6), [0.25, 1.0, 4.0]
    ax = plot.phase_diagram(sigma, beta, np.ones((6, 3)))
    corners = ax.collections[0].get_coordinates()
    assert (corners[..., 0].min(), corners[..., 0].max()) == ax.get_xlim() == (0.0, 1.5)
    assert (corners[..., 1].min(), corners[..., 1].max()) == ax.get_ylim() == (0.25, 4.0)
    plt.close("all")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: plot.fan(TS[None], VALUES),
            r"`ts` must be \(times,\), not empty; got shape \(1, 9\)",
        ),
        (
            lambda: plot.fan(TS, VALUES.T),
            r"`values` must be \(members, times\) with the 9 times of `ts`; got shape \(9, 50\)",
        ),
        (lambda: plot.fan(TS, VALUES * np.nan), "`values` must be finite; got nan at index"),
        (lambda: plot.fan(TS, VALUES, theory=TS[1:]), r"`theory` must have shape \(9,\)"),
        (lambda: plot.mean_lines(TS, {}), "`values` must hold at least one series"),
        (lambda: plot.mean_lines(TS, {"a": VALUES[:1]}), "at least 2 members; got 1"),
        (lambda: plot.mean_lines(TS, {"a": VALUES[0]}), r"`values\['a'\]` must be \(members"),
        (
            lambda: plot.mean_lines(TS, {"a": VALUES}, theory={"b": TS}),
            r"`theory` must have labels of `values`, \['a'\]; got 'b'",
        ),
        (
            lambda: plot.error_band(TS, TS, TS[1:]),
            r"`errors` must have shape \(9,\) or \(2, 9\); got shape \(8,\)",
        ),
        (lambda: plot.error_bars(TS, TS, -TS), "`errors` must not be negative; got -2"),
        (lambda: plot.error_bars(TS, VALUES, TS), r"`values` must have the shape \(9,\)"),
        (lambda: plot.error_bars(1.0, 1.0, 1.0), r"`x` must be \(points,\), not empty"),
        (lambda: plot.shades(0), "`count` must be at least 1; got 0"),
        (lambda: plot.spectrum([]), "`values` must hold at least one eigenvalue"),
        (lambda: plot.spectrum([1.0], bins=0), "`bins` must be at least 1; got 0"),
        (lambda: plot.spectrum([1.0], edge=0.0), "`edge` must be one positive number; got 0"),
        (
            lambda: plot.spectrum([1.0], edge=1.0, density=([0.0], [1.0])),
            "`density` must not be given beside `edge`",
        ),
        (lambda: plot.angle_histogram([]), "`angles` must hold at least one angle"),
        (lambda: plot.angle_histogram([1.0, 3.2]), r"must lie in \[0, pi\]; got 3.2"),
        (lambda: plot.angle_histogram([1.0], bins=0), "`bins` must be at least 1; got 0"),
        (
            lambda: plot.angle_histogram([1.0], density=lambda theta: 1.0),
            r"`density\(theta\)` must have shape \(600,\); got shape \(\)",
        ),
        (
            lambda: plot.phase_diagram([0.0, 1.0], [0.0, 1.0, 2.0], np.ones((3, 2))),
            r"`values` must have shape \(2, 3\); got \(3, 2\)",
        ),
        (
            lambda: plot.phase_diagram([0.0, 1.0], [1.0, 0.0], np.ones((2, 2))),
            "`y` must be at least 2 increasing numbers",
        ),
        (
            lambda: plot.phase_diagram([0.0, 1.0], [0.0, 1.0], np.full((2, 2), np.nan)),
            "`values` must be finite; got nan",
        ),
        (lambda: plot.sphere(np.eye(4)), r"`x` must be \(tokens, 3\) or \(times, tokens, 3\)"),
        (lambda: plot.sphere(2 * np.eye(3)), "`x` must have unit tokens; got a length 1 away"),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule_and_leaves_no_figure(call, message):
    before = plt.get_fignums()
    with pytest.raises(ValueError, match=message):
        call()
    assert plt.get_fignums() == before
