import json
import re
import statistics
from pathlib import Path

import jax
import numpy as np
import pytest
from _ensembles import assert_mean

import rqf_jax as rqf
from rqf_jax.theory import sphere

PROGRAMS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAMS))


def tables(text):
    """All markdown tables of a text: lists of rows of cells, the head first."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


@pytest.mark.slow
def test_the_accuracy_table_shows_a_right_projective_flow_and_a_biased_heun(monkeypatch, capsys):
    import accuracy

    monkeypatch.setattr(accuracy, "STEPS", (4,))
    accuracy.main(["--members", "4000"])
    printed = capsys.readouterr().out
    ((_, reference, *rows),) = tables(printed)

    laws = [
        sphere.mean_overlap,
        sphere.positive_overlap_probability,
        sphere.mean_squared_overlap,
    ]
    exact = [float(law(2.0, 0.3, sigma=1.0)) for law in laws]
    np.testing.assert_allclose([float(cell) for cell in reference[2:]], exact, atol=5e-5)

    assert [row[:2] for row in rows] == [
        ["ProjectiveFlow", "4"],
        ["GeodesicHeun", "4"],
        ["GeodesicEuler", "4"],
    ]
    errors = np.array([[cell.split(" ± ") for cell in row[2:]] for row in rows], float)
    score = errors[..., 0] / errors[..., 1]
    assert np.all(np.abs(score[0]) < 5)
    # Heun's own bias, -0.214, is more than 50 standard errors away from the exact value.
    assert errors[1, 2, 0] < -0.15 and score[1, 2] < -20
    # A bounded variable has a known largest standard error.
    assert np.all(errors[..., 1] <= 1.0001 / np.sqrt(4000) + 5e-5)

    largest = float(re.search(r"largest ([\d.e+-]+)\)", printed)[1])
    assert largest == pytest.approx(np.abs(errors[0, :, 0]).max(), rel=0.06, abs=5e-5)
    assert ("met" in printed) == (largest <= 2e-3)


@pytest.mark.slow
def test_a_member_that_overflows_is_counted_and_left_out(as_a_user):
    import accuracy

    class Explosive(rqf.noises.AbstractNoise):
        """Overflows for the members whose first increment is positive: half of them."""

        def shape(self, x):
            return x.shape

        def __call__(self, t, x, dw):
            return x * (jax.numpy.sign(dw[0, 0]) + 1) * 1e38

        def calculus(self, manifold):
            return rqf.noises.Calculus.EITHER

    sde = rqf.SDE(rqf.drifts.NoDrift(), Explosive(), rqf.manifolds.Euclidean())
    solver = rqf.solvers.GeodesicEuler()
    errors = accuracy.weak_errors(sde, solver, 2, 400, jax.random.key(0))
    # Two steps: a member survives with probability 1/4, and then it has not moved.
    assert abs(errors.lost - 300) < 5 * np.sqrt(400 * 3 / 16)
    assert errors.error + accuracy.exact() == pytest.approx([0.3, 1.0, 0.09], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "peer",
    [
        "engine",
        "hand_written_scan",
        *(pytest.param(peer, marks=pytest.mark.slow) for peer in ("numpy_loop", "plain_diffrax")),
    ],
)
def test_all_contenders_move_overlaps_by_the_same_law(peer, as_a_user):
    import benchmark

    size, steps = benchmark.Size(4000, 2, 3), 8
    if peer == "plain_diffrax":
        contender = benchmark.plain_diffrax(size, 8, steps * size.step / 8)
    else:
        contender = getattr(benchmark, peer)(size, steps)
    states = np.asarray(contender.call(3, 1.0), float)
    start, end = np.moveaxis(states, 1, 0) if peer == "engine" else (size.tokens_at_start(), states)
    if peer != "plain_diffrax":
        assert np.abs(np.linalg.norm(end, axis=-1) - 1).max() < 4e-7
    r0 = np.sum(start[:, 0] * start[:, 1], axis=-1)
    r = np.sum(end[:, 0] * end[:, 1], axis=-1) / np.linalg.norm(end, axis=-1).prod(axis=-1)
    t = steps * size.step
    moved = np.stack(
        [
            r - sphere.mean_overlap(t, r0, sigma=1.0),
            r**2 - sphere.mean_squared_overlap(t, r0, sigma=1.0),
        ],
        axis=-1,
    )
    assert_mean(moved, 0.0, bias=2e-3)


def test_a_round_that_slows_everybody_leaves_the_ratio_alone():
    import benchmark

    fast = [1.0, 1.1, 0.9, 1.0, 1.05]
    slow = [3.0 * second for second in fast]
    disturbed = [1.0, 7.0, 1.0, 4.0, 1.0]
    assert benchmark.ratio(
        [a * b for a, b in zip(slow, disturbed, strict=True)],
        [a * b for a, b in zip(fast, disturbed, strict=True)],
    ) == pytest.approx(3.0)


@pytest.mark.slow
def test_the_table_of_attention_sets_it_beside_its_products(as_a_user, capsys):
    import benchmark

    (result,) = benchmark.race_attention(2, [benchmark.Size(2, 3, 4)])
    goals = benchmark.show_attention([result])
    ((_, row),) = tables(capsys.readouterr().out)
    seconds = result["seconds_per_step"]
    assert list(seconds) == ["noise alone", "two products + noise", "attention + noise", "diffrax"]
    model = benchmark.ratio(seconds["attention + noise"], seconds["two products + noise"])
    assert float(row[6]) == float(goals[0][2]) == pytest.approx(model, rel=1e-2)
    assert (goals[0][3] == "yes") == (model <= 1.3)


@pytest.mark.slow
def test_the_speed_tables_and_verdicts_follow_from_the_recorded_times(as_a_user, capsys, tmp_path):
    import benchmark

    out = tmp_path / "times.json"
    arguments = "--only steps --sizes 2x2x16 --rounds 2 --json"
    benchmark.main([*arguments.split(), str(out)])
    speed, tall, goals = tables(capsys.readouterr().out)
    (result,) = json.loads(out.read_text())["steps"]
    seconds = result["seconds_per_step"]
    assert result["size"] == [2, 2, 16] and all(len(times) == 2 for times in seconds.values())
    assert all(time > 0 for times in seconds.values() for time in times)

    (row,) = speed[1:]
    peers = ["engine", "NumPy", "scan", "diffrax"]
    for cell, peer in zip(row[2:6], peers, strict=True):
        assert float(cell.split()[0]) == pytest.approx(
            1e6 * statistics.median(seconds[peer]), rel=1e-3
        )
        assert float(cell.split()[1].strip("()")) == pytest.approx(
            1e6 * min(seconds[peer]), rel=1e-3
        )
    # The engine's throughput times its time per step is members times tokens.
    assert float(row[6]) * float(row[2].split()[0]) * 1e-6 == pytest.approx(4, rel=1e-2)
    assert [line[1] for line in tall[1:]] == [
        "engine, overlaps only",
        "engine, tokens in their span",
    ]
    measured = {line[0].partition(") ")[2]: line for line in goals[1:]}
    assert [float(line[1].removeprefix("≥ ")) for line in measured.values()] == [1.5, 20, 100]
    diffrax = benchmark.ratio(seconds["diffrax"], seconds["engine"])
    assert float(measured["against diffrax"][2]) == pytest.approx(diffrax, rel=1e-2)
    for line in goals[1:]:
        assert ("yes" in line[3]) == (float(line[2]) >= float(line[1].removeprefix("≥ ")))


@pytest.mark.slow
def test_heun_needs_as_many_steps_as_its_measured_bias_says(as_a_user, capsys, tmp_path):
    import benchmark

    out = tmp_path / "times.json"
    benchmark.main(["--only", "accuracy", "--rounds", "1", "--samples", "4000", "--json", str(out)])
    result = json.loads(out.read_text())["accuracy"]
    assert result["exact"] == pytest.approx(float(sphere.mean_squared_overlap(2, 0.3, sigma=1.0)))

    # Order 1: bias = slope h, steps = T slope / 1e-3, the slope by least squares through 0.
    h = np.array([2 / 128, 2 / 256])
    bias = np.array([result["heun_bias"][steps][0] for steps in ("128", "256")])
    slope = np.linalg.lstsq(h[:, None], bias, rcond=None)[0][0]
    assert result["steps"]["diffrax"] == int(np.ceil(2 * abs(slope) / 1e-3))

    for error, deviation, _ in result["engine_bias"].values():
        assert abs(error) < 5 * deviation
    (_, *rows), ((_, goal)) = tables(capsys.readouterr().out)
    assert [row[1] for row in rows] == [
        str(result["steps"][peer]) for peer in ("engine", "diffrax")
    ]
    seconds = result["seconds"]
    assert float(goal[2]) == pytest.approx(
        benchmark.ratio(seconds["diffrax"], seconds["engine"]), rel=1e-2
    )


@pytest.mark.slow
def test_all_ways_to_move_eigenvalues_obey_the_laws_of_two_but_explicit_steps(as_a_user, capsys):
    import eigenvalues

    result = eigenvalues.race_eigenvalues(1, sizes=((3, 4),), members=2000)
    (goal, _) = eigenvalues.show_eigenvalues(result)
    laws, times, ratios = tables(capsys.readouterr().out)
    wrong = [name for name, *_, right in laws[1:] if right != "yes"]
    assert wrong == [eigenvalues.SCAN]
    seconds = result["sizes"][0]["seconds"]
    own = ratios[1][1]
    assert seconds[own] == min(seconds[eigenvalues.JUMP], seconds[eigenvalues.MATRIX])
    assert goal[2] == f"{seconds[eigenvalues.NUMPY][0] / seconds[own][0]:.3g}"
    assert [row[0] for row in times[1:]] == [row[0] for row in laws[1:]]


@pytest.mark.slow
def test_the_linear_scaling_table_is_right_and_goes_on_where_it_was_stopped(
    monkeypatch, capsys, tmp_path, as_a_user
):
    import linear_scaling

    monkeypatch.setattr(linear_scaling, "MACHINES", [linear_scaling.Setting("machine", 0.1, 64)])
    students = [linear_scaling.Setting("student", rate, 16, 0.1) for rate in (0.1, 0.5)]
    monkeypatch.setattr(linear_scaling, "STUDENTS", students)
    arguments = [str(tmp_path), "--seeds", "300", "--part", "150"]
    linear_scaling.main(arguments)
    printed = capsys.readouterr().out
    ((_, *rows),) = tables(printed)
    for row, bias in zip(rows, (0.04, 0.0, 0.0), strict=True):
        ratio, error = (float(number) for number in row[5].split(" ± "))
        assert abs(ratio - 1) < 5 * error + bias

    # One part is lost; it alone is made again.
    calls, train = [], rqf.training.train
    monkeypatch.setattr(rqf.training, "train", lambda *a, **k: calls.append(k) or train(*a, **k))
    lost = next(tmp_path.glob("student-0.5-*-150-150.npy"))
    lost.unlink()
    linear_scaling.main(arguments)
    assert capsys.readouterr().out == printed
    assert [call["first_seed"] for call in calls] == [150]


@pytest.mark.slow
def test_the_speed_table_has_a_faster_machine_than_a_loop_over_seeds(capsys, as_a_user):
    import training_speed

    training_speed.main(["--seeds", "64", "--updates", "100", "--loop-updates", "10"])
    ((_, *rows),) = tables(capsys.readouterr().out)
    # As a loaded machine leaves it: the table of the documentation is made on a quiet one.
    assert float(rows[-1][3]) > 1


@pytest.mark.slow
def test_the_scaling_tables_compare_within_a_round(monkeypatch, capsys, tmp_path, as_a_user):
    import scaling

    whole = scaling.CONFIG.read_text(encoding="utf-8")
    small = tmp_path / "small.toml"
    small.write_text(whole.replace("1_000_000", "4_000"), encoding="utf-8")
    monkeypatch.setattr(scaling, "CONFIG", small)
    monkeypatch.setattr(scaling, "SIZES", {"N = 8, n = 3": (8, 3)})
    monkeypatch.setattr(scaling, "DEVICES", (1, 2))
    scaling.main(["--rounds", "1", "--seconds", "0.1"])
    cores, devices, run = tables(capsys.readouterr().out)
    value = [[float(cell.split()[0]) for cell in row[1:]] for row in (*cores[1:], *devices[1:])]
    assert all(number > 0 for row in value for number in row)
    rates, over = zip(*value[1:], strict=True)
    assert over[1] == 1 and over[0] == pytest.approx(rates[0] / rates[1], rel=0.02)
    (_, bare, _), (_, with_it, share) = run[1:]
    first, second = (float(cell.split()[0]) for cell in (bare, with_it))
    assert float(share.split()[0]) == pytest.approx(second / first, rel=0.02)


@pytest.mark.slow
def test_the_dense_likelihood_of_the_benchmark_is_that_of_the_fit_and_verdicts_follow(
    as_a_user, capsys
):
    import fits

    size, length = fits.Size(4, 8, 20, 40), fits.LENGTHS["short"]
    data = fits.paths(size, length, 1)
    contenders = fits.closed(data, fits.times(size, length)), fits.dense(data, size, length)
    (ours, (low, high)), (theirs, ends) = (contender.call(0, 1.0) for contender in contenders)
    # The fit has the floor of the commutators in the variance of its mixed numbers, and leaves out
    # tokens that are close to the span of others.
    assert ours == pytest.approx(theirs, abs=0.2 * (high - low) / 4)
    assert 1 < (high - low) / (ends[1] - ends[0]) < 1.1
    assert low < ours < high

    few, lengths = size._replace(members=2, steps=4), {"short": length}
    result = fits.race_fits(1, sizes=(few,), lengths=lengths, count=1)
    goals = fits.show_fits(result)
    whole, steps = tables(capsys.readouterr().out)
    assert [row[1] for row in whole[1:]] == [fits.FIT, fits.DENSE, fits.GRADIENT]
    seconds = result["whole"][0]["seconds"]
    assert float(whole[1][2].split()[0]) == pytest.approx(1e3 * seconds[fits.FIT][0], rel=1e-2)
    for what, mark, measured, met in goals:
        most, value = float(mark[2:]), float(measured)
        assert (met == "yes") == (value <= most if mark[0] == "≤" else value >= most), what
    assert float(steps[1][2].split()[0]) > 0


@pytest.mark.slow
def test_the_table_of_weak_errors_for_a_gpu_holds_kernel_and_scan_to_the_truth(
    monkeypatch, as_a_user
):
    import gpu

    monkeypatch.setenv("RQF_JAX_FUSED", "1")
    rows, _ = gpu.weigh(2000)
    ways, counts = (gpu.FUSED, gpu.XLA), ("4", "16")
    assert [row[:2] for row in rows] == [[way, steps] for way in ways for steps in counts]
    errors = np.array([[cell.split(" ± ") for cell in row[2:]] for row in rows], float)
    assert np.all(np.abs(errors[..., 0]) < 5 * errors[..., 1])


@pytest.mark.slow
def test_the_race_of_surrogates_has_errors_over_seeds_and_a_null(as_a_user, capsys):
    import surrogates

    only = ["persistence", "EDMD", "shallow piecewise"]
    options = [part for name in only for part in ("--only", name)]
    surrogates.main(["--system", "wells", "--seeds", "2", "--updates", "0.02", *options])
    ((head, null, *rows),) = tables(capsys.readouterr().out)
    assert [row[0] for row in (head, null, *rows)] == ["wells", "truth", *only]
    # The null is of the truth itself, and no surrogate of so few updates comes near it.
    least = float(null[1].split()[0])
    assert all(float(row[1].split()[0]) > 3 * least for row in rows)
    assert all("±" in cell for cell in rows[2][1:5])
    square, rate = (float(re.search(r"data ([\d.]+)", null[i])[1]) for i in (3, 4))
    assert square == pytest.approx(float(null[3].split()[0]), rel=0.05)
    assert rate == pytest.approx(float(null[4].split()[0]), rel=0.1)
