"""Theorems about the page to play with: it moves tokens as the library does, and tells its theory.

The modules that need no page run in Node, and the page in Chromium; tests skip without them.
"""

import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _browser import CHROMIUM, DRIVER, browser
from _pages import ROOT

import rqf_jax as rqf
from rqf_jax._brownian.counter import normal_pairs
from rqf_jax.theory import attention, forcing, multistability, normalisation, sphere

SOURCE = ROOT / "docs" / "explore"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver"
)
NUMBERS = dict(
    symmetric=1.0,
    antisymmetric=0.0,
    strength=0.0,
    beta=2.0,
    forcing=0.0,
    scheme="post",
    tokens=5,
    members=2,
    horizon=4,
    seed=7,
)
SETTINGS = {
    "noise only": {},
    "attention and noise": dict(symmetric=0.6, strength=1.0, beta=3.0),
    "rotation and a push": dict(symmetric=0.0, antisymmetric=1.2, forcing=0.5),
    "Pre-LN": dict(strength=1.0, forcing=0.3, scheme="pre"),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Runs a program that may import the page's modules; returns what it gives to `show`."""
    folder = tmp_path_factory.mktemp("explore")
    for path in SOURCE.glob("*.js"):
        shutil.copy(path, folder)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")

    def run(program, **given):
        head = f"const given = {json.dumps(given)};\n"
        show = "const show = (value) => console.log(JSON.stringify(value));\n"
        (folder / "program.js").write_text(head + show + program, encoding="utf-8")
        line = [NODE, "program.js"]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page as one file, as the site has it."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import single_file
    finally:
        sys.path.remove(str(ROOT / "docs"))
    target = tmp_path_factory.mktemp("site") / "explore" / "index.html"
    single_file.write(SOURCE, target)
    return target


def program_of(state, node):
    return node('import { toPython } from "./python.js"; show(toPython(given.state));', state=state)


def executed(program):
    """The names that a program makes, and what it prints, as for a user: in float32."""
    names, printed = {}, StringIO()
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        redirect_stdout(printed),
    ):
        exec(program, names)
    return names, printed.getvalue()


def overlaps(x):
    return x @ np.swapaxes(x, -1, -2)


# ---- the same numbers


@needs_node
def test_keys_and_normals_are_those_of_jax_and_of_the_library(node):
    found = node("""
        import * as random from "./threefry.js";
        const key = random.key(11);
        const list = (count, f) => Array.from({ length: count }, (_, i) => f(i));
        show({
          split: random.split(key),
          folded: random.foldIn(key, 5),
          bits: list(8, (i) => random.bits(key, i)),
          normal: list(4000, (i) => random.normal(key, i)),
          pairs: list(4000, (i) => random.normalPair([3, 4000000000], i, i % 6)),
          stream: random.stream(random.memberKeys(key, 2)[1]),
        });
    """)
    key, counts = jax.random.key(11), jnp.arange(4000, dtype=jnp.int32)
    words = [jnp.full(4000, word, jnp.uint32) for word in (3, 4_000_000_000)]
    pairs = normal_pairs(tuple(words), counts, counts % 6, np.dtype("float32"))
    np.testing.assert_array_equal(found["split"], jax.random.key_data(jax.random.split(key)))
    np.testing.assert_array_equal(found["folded"], jax.random.key_data(jax.random.fold_in(key, 5)))
    np.testing.assert_array_equal(found["bits"], jax.random.bits(key, (8,), jnp.uint32))
    noise_key = rqf.member_keys(key, 2)[1]
    np.testing.assert_array_equal(found["stream"], jax.random.bits(noise_key, (2,), jnp.uint32))
    normal = jax.random.normal(key, (4000,), jnp.float32)
    np.testing.assert_allclose(found["normal"], normal, atol=1e-5)
    np.testing.assert_allclose(found["pairs"], np.stack([pairs.real, pairs.imag], -1), atol=1e-6)


@needs_node
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "Pre-LN" else n for n in SETTINGS]
)
def test_overlaps_along_200_steps_are_those_of_simulate(node, name):
    state = NUMBERS | SETTINGS[name]
    program = """
        import { Member } from "./dynamics.js";
        const members = [0, 1].map((number) => new Member(given.state, number));
        show(members.map((member) => {
          const saves = [Array.from(member.x)];
          for (let step = 1; step <= 200; step++) {
            member.advance();
            if (step % 8 === 0) saves.push(Array.from(member.x));
          }
          return saves;
        }));
    """
    found = np.reshape(node(program, state=state), (2, 26, 5, 3))
    runs = executed(program_of(state, node))[0]["runs"]
    assert runs.ys.dtype == jnp.float32
    expected = np.asarray(runs.ys[:, :26], float)
    assert np.abs(overlaps(expected[:, -1]) - overlaps(expected[:, 0])).max() > 0.3
    np.testing.assert_allclose(overlaps(found), overlaps(expected), atol=1e-4)


@needs_node
def test_the_program_of_the_page_prints_the_order_of_the_page(node):
    state = NUMBERS | SETTINGS["attention and noise"]
    order = node(
        """
        import { nematicOrder } from "./measure.js";
        import { Run } from "./run.js";
        const run = new Run(given.state);
        run.advanceTo(Infinity, Infinity);
        show(nematicOrder(run.shown.x));
        """,
        state=state,
    )
    printed = executed(program_of(state, node))[1]
    assert re.fullmatch(r"nematic order of member 0 at t = 4: (0\.\d{4}|1\.0000)\n", printed)
    assert abs(float(printed.split()[-1]) - order) < 1.5e-4


@needs_node
def test_measurements_are_the_observables_of_the_library(node):
    x = rqf.laws.Uniform(9, 3)(jax.random.key(3))
    found = node(
        'import { measure } from "./measure.js"; show(measure(Float64Array.from(given.x)));',
        x=np.ravel(x).tolist(),
    )
    angles = np.asarray(rqf.observables.angles(x))
    assert abs(found["polar"] - rqf.observables.polar_order(x) ** 2) < 1e-6
    assert abs(found["nematic"] - rqf.observables.nematic_order(x) ** 2) < 1e-6
    assert abs(found["angle"] - angles.mean()) < 1e-6
    assert abs(found["logSine"] - np.log(np.sin(angles)).mean()) < 1e-6


# ---- the same theory


@needs_node
def test_closed_forms_are_those_of_the_library(node):
    found = node("""
        import * as theory from "./theory.js";
        const state = { symmetric: 0.7, beta: 1.2, strength: 0.8, forcing: 0 };
        show({
          critical: theory.criticalSigma(1.2, 0.8),
          growth: theory.splitGrowth(0.3, 1.2, 0.8),
          opposite: [0.9, 1.2, 2.0].map((beta) => theory.oppositeProbability(beta, 0.8, 0.7)),
          one: theory.lateSlope(state, 5, 0),
          split: theory.lateSlope(state, 3, 2),
          merge: theory.mergeTime({ symmetric: 0.7, forcing: 0.1 }),
          sizes: theory.binomial(12),
          radius: theory.radiusGrowth({ symmetric: 0.7, antisymmetric: 0.4, forcing: 0 }),
        });
    """)
    weight = attention.softmax_weight
    assert abs(attention.critical_strength(weight, beta=1.2, sigma=found["critical"]) - 0.8) < 1e-12
    growth = attention.softmax_split_rate(0.3, beta=1.2, strength=0.8)
    assert abs(found["growth"] - growth) < 1e-12
    for beta, chance in zip([0.9, 1.2, 2.0], found["opposite"], strict=True):
        exact = attention.antipodal_probability(0.0, weight, beta=beta, strength=0.8, sigma=0.7)
        assert abs(chance - exact) < 2e-3
    assert abs(found["one"] + 0.7**2 + 0.8) < 1e-12
    # The modes within clusters of 3 and 2, and the mode that parts them, of weights 3, 1 and 6.
    rates = multistability.split_spectrum(3, 2, eigenvalue=0.8, others=[0.8], alignment=1.2).real
    within, apart = np.sort(rates)[:3], np.sort(rates)[-1]
    slope = (3 * within[:2].mean() + within[2] + 6 * apart) / 10 - 0.7**2
    assert abs(found["split"] - slope) < 1e-12
    assert abs(found["merge"] - forcing.weak_merge_time(sigma=0.7, forcing=0.1, dim=3)) < 1e-12
    radius = normalisation.matrix_squared_radius_mean(1.0, symmetric=0.7, antisymmetric=0.4, dim=3)
    assert abs(found["radius"] - radius) < 1e-12
    np.testing.assert_allclose(found["sizes"], sphere.cluster_size_distribution(12), atol=1e-14)


@needs_node
def test_means_of_a_pair_are_those_of_the_library(node):
    state = NUMBERS | dict(symmetric=0.8, horizon=6)
    program = """
        import { pairMeans } from "./theory.js";
        show(pairMeans(given.state, given.angles));
    """
    found = node(program, state=state, angles=[1.1])
    times = np.arange(49) / 8
    expected = {
        "cosine": sphere.mean_overlap(times, np.cos(1.1), sigma=0.8),
        "square": sphere.mean_squared_overlap(times, np.cos(1.1), sigma=0.8),
        "angle": np.full(49, 1.1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=5e-4)
    # Two tokens with attention end opposite or aligned, with the chances of the library.
    pair = state | dict(tokens=2, strength=0.3, beta=1.0, horizon=32)
    chance = attention.antipodal_probability(
        np.cos(1.1), attention.softmax_weight, beta=1.0, strength=0.3, sigma=0.8
    )
    end = node(program, state=pair, angles=[1.1])["cosine"][-1]
    assert abs(end - (1 - 2 * chance)) < 5e-3
    # The drift of an overlap under a push, from its first change.
    push = state | dict(symmetric=0.2, forcing=0.1, horizon=2)
    start = node(program, state=push, angles=[1.1])["cosine"]
    slope = (-3 * start[0] + 4 * start[1] - start[2]) * 4
    drift = forcing.overlap_drift(np.cos(1.1), sigma=0.2, forcing=0.1, dim=3)
    assert abs(slope - drift) < 2e-3 * abs(drift)


@needs_node
def test_sides_are_binomial_at_all_times_and_radii_grow_as_the_page_says(node):
    state = NUMBERS | dict(tokens=6, members=1_000, antisymmetric=0.5, scheme="pre")
    found = node(
        """
        import { Run } from "./run.js";
        import { binomial, radiusGrowth } from "./theory.js";
        const run = new Run(given.state);
        run.advanceTo(32, Infinity);
        const radii = run.members.map((member) => member.squaredRadius);
        const { state } = run;
        show({ sizes: Array.from(run.clusterSizes()), law: binomial(6), radii,
               mean: 1 + radiusGrowth(state) / 2 });
        """,
        state=state,
    )
    # Both sides of a member are counted, so that shares vary twice as much as those of one.
    law, sizes = np.array(found["law"]), np.array(found["sizes"])
    assert np.abs((sizes - law) / np.sqrt(law * (1 - law) / 500)).max() < 5
    radii = np.array(found["radii"])
    assert abs(radii.mean() - found["mean"]) < 5 * radii.std() / np.sqrt(1_000)


# ---- the address


@needs_node
def test_an_address_keeps_the_state_and_refuses_what_is_out_of_range(node):
    state = NUMBERS | SETTINGS["attention and noise"]
    program = 'import { fromHash, toHash } from "./state.js"; show(fromHash(%s));'
    again = node(program % ("toHash(given.state)"), state=state)
    assert again == state
    wild = node(program % ('"#tokens=1e9&beta=x&symmetric=-3&seed=12.4&other=1"'))
    assert (wild["tokens"], wild["beta"], wild["symmetric"], wild["seed"]) == (64, 2, 0, 12)


def test_files_are_short_and_load_nothing_from_a_network():
    for path in SOURCE.iterdir():
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, path
        assert not re.findall(r"https?:|//cdn|@import|url\(", text), path


# ---- the page


@pytest.mark.slow
@needs_chromium
def test_the_page_runs_without_an_error_and_in_time(page, tmp_path):
    with browser(tmp_path) as window:
        window.open(f"{page.as_uri()}#tokens=64&members=8&strength=1&beta=3&horizon=4")
        window.wait("explore.run.shown.step >= 128", 60)
        frames = np.array(window.run("return explore.frames"))
        assert np.median(frames) < 1000 / 60
        assert window.errors() == []
        window.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000


@pytest.mark.slow
@needs_chromium
def test_the_page_and_its_program_make_the_same_tokens(page, tmp_path):
    with browser(tmp_path) as window:
        window.open(f"{page.as_uri()}#symmetric=0.5&strength=1&tokens=8&members=2&horizon=2&seed=4")
        window.run("document.getElementById('speed').selectedIndex = 4")
        window.wait("explore.run.members.every((member) => member.step === 128)", 60)
        program = window.run("return document.getElementById('python').textContent")
        found = window.run("return explore.run.members.map((member) => Array.from(member.x))")
    ys = np.asarray(executed(program)[0]["runs"].ys[:, -1], float)
    np.testing.assert_allclose(overlaps(np.reshape(found, (2, 8, 3))), overlaps(ys), atol=1e-4)


@pytest.mark.slow
@needs_chromium
def test_the_page_is_for_keyboards_and_its_address_keeps_the_state(page, tmp_path):
    with browser(tmp_path) as window:
        window.open(page.as_uri())
        window.run("document.getElementById('plane').focus()")
        window.press("right", "right", "up")
        assert window.run("return [explore.state.beta, explore.state.symmetric]") == [2.2, 1.05]
        window.run("document.getElementById('strength').focus()")
        window.press("right")
        assert window.run("return explore.state.strength") == 0.05
        window.run("document.getElementById('again').focus()")
        window.press("space")
        assert window.run("return explore.state.seed") == 2
        # Every control has a name, and the keyboard reaches it.
        unnamed = """return [...document.querySelectorAll('button, input, select, canvas')].filter(
            (one) => !(one.labels?.length || one.textContent.trim() || one.ariaLabel)).length"""
        assert window.run(unnamed) == 0
        state = window.run("return explore.state")
        address = window.run("return location.href")
        window.open("about:blank")
        window.open(address)
        assert window.run("return explore.state") == state
        assert window.errors() == []


@pytest.mark.slow
@needs_chromium
def test_the_point_of_the_plane_goes_where_it_is_dragged(page, tmp_path):
    with browser(tmp_path) as window:
        window.open(f"{page.as_uri()}#strength=1")
        window.wait("explore.run.shown.step > 0")
        left, top, right, bottom = window.run("""
            const box = document.getElementById('plane').getBoundingClientRect();
            return [box.left, box.top, box.right, box.bottom].map(Math.round);""")
        window.drag((left + 60, top + 60), (right - 2, bottom - 2))
        assert window.run("return [explore.state.beta, explore.state.symmetric]") == [6, 0]
        window.drag((left + 60, top + 60), (left + 1, top + 1))
        assert window.run("return [explore.state.beta, explore.state.symmetric]") == [0, 2]
        assert window.errors() == []


@pytest.mark.slow
@needs_chromium
def test_the_page_fits_a_phone(page, tmp_path):
    with browser(tmp_path, width=520) as window:
        window.device(360, 740)
        window.open(page.as_uri())
        assert window.run("return document.documentElement.scrollWidth") <= 360
