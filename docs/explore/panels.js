// The panels beside the sphere: order, angles, distances on a logarithmic scale, cluster sizes.
// Measurements are solid, theory is dashed.

import { Chart, ticks } from "./chart.js";
import { SUBSTEPS, STEPS } from "./dynamics.js";
import { clusterSize, nematicOrder } from "./measure.js";
import { binomial, lateSlope, orders, pairIsClosed, pairMeans, splitGrowth } from "./theory.js";

const RADIAN_TICKS = [0, 0.25, 0.5, 0.75, 1].map((share) => share * Math.PI);
const RADIANS = { 0: "0", 0.25: "π/4", 0.5: "π/2", 0.75: "3π/4", 1: "π" };
const ORDERED = 0.95;

const timeAxis = ({ horizon }) => ({
  from: 0,
  to: horizon,
  ticks: ticks(0, horizon, 4),
  label: "time t",
});

const times = (values) => values.map((value, save) => [(save * SUBSTEPS) / STEPS, value]);

/** The means of one pair at every save, where its equation holds; once for a run. */
function theoryOf(run) {
  if (run.theory === undefined) {
    const closed = pairIsClosed(run.state);
    run.theory = closed ? pairMeans(run.state, run.startingAngles()) : null;
  }
  return run.theory;
}

/** A curve with a band of two standard errors; `map` turns values into what is drawn. */
function measured(chart, points, colour, map = (value) => value) {
  const band = points.filter(({ error }) => Number.isFinite(error));
  if (band.length) {
    chart.band(
      band.map(({ time, mean, error }) => [time, map(mean - 2 * error), map(mean + 2 * error)]),
      colour,
    );
  }
  chart.line(points.map(({ time, mean }) => [time, map(mean)]), colour);
}

export function drawOrder(canvas, run) {
  const y = { from: 0, to: 1, ticks: [0, 0.25, 0.5, 0.75, 1], label: "order" };
  const chart = new Chart(canvas, timeAxis(run.state), y);
  const root = (square) => Math.sqrt(Math.max(0, square));
  chart.clip(() => {
    measured(chart, run.curve("polar"), chart.colours.minus, root);
    measured(chart, run.curve("nematic"), chart.colours.plus, root);
    if (!theoryOf(run)) return;
    const expected = orders(run.state.tokens, theoryOf(run));
    for (const name of ["polar", "nematic"]) {
      chart.line(times(expected[name]), chart.colours.ink, { dashed: true, width: 1.5 });
    }
  });
}

export function drawAngles(canvas, run) {
  const format = (tick) => RADIANS[tick / Math.PI];
  const y = { from: 0, to: Math.PI, ticks: RADIAN_TICKS, format, label: "angle θ" };
  const chart = new Chart(canvas, timeAxis(run.state), y);
  chart.clip(() => {
    run.fan.forEach((_, pair) => {
      const path = times(run.fans.map((angles) => angles[pair]));
      chart.line(path, chart.colours.faint, { width: 1, alpha: 0.6 });
    });
    measured(chart, run.curve("angle"), chart.colours.plus);
    const theory = theoryOf(run);
    if (theory) chart.line(times(theory.angle), chart.colours.ink, { dashed: true, width: 1.5 });
  });
}

/** Two points of the line that theory has for the mean of ln sin θ; none where it has none. */
function distanceTheory(run, points) {
  const { strength, forcing, symmetric, horizon, scheme } = run.state;
  if (scheme === "pre") return [];
  const line = (slope, { time, mean }) =>
    [0, horizon].map((end) => [end, mean + slope * (end - time)]);
  if (strength === 0 && forcing === 0) return line(-(symmetric ** 2), points[0]);
  // The mean slope of the members that have come to clusters, through the present.
  const slopes = run.members.map((member) => clusterSlope(run.state, member.directions));
  const settled = slopes.filter(Number.isFinite);
  if (settled.length <= slopes.length / 2) return [];
  const mean = settled.reduce((sum, slope) => sum + slope, 0) / settled.length;
  return line(mean, points[points.length - 1]);
}

/** The late slope at the clusters that tokens are in; NaN if they are in none that last. */
function clusterSlope(state, x) {
  if (nematicOrder(x) < ORDERED) return NaN;
  const plus = clusterSize(x);
  const split = plus > 0 && plus < state.tokens;
  return split && state.forcing > 0 ? NaN : lateSlope(state, plus, state.tokens - plus);
}

export function drawDistances(canvas, run) {
  const points = run.curve("logSine");
  const y = { from: -16, to: 0, ticks: [-16, -12, -8, -4, 0], label: "mean ln sin θ" };
  const chart = new Chart(canvas, timeAxis(run.state), y);
  chart.clip(() => {
    measured(chart, points, chart.colours.plus);
    chart.line(distanceTheory(run, points), chart.colours.ink, { dashed: true, width: 1.5 });
  });
}

export function drawClusters(canvas, run) {
  const { tokens, strength, beta, forcing, symmetric, scheme } = run.state;
  const shares = run.clusterSizes();
  const law = strength === 0 && forcing === 0 ? binomial(tokens) : [];
  const most = Math.max(...shares, ...law) * 1.1;
  const whole = ticks(0, tokens, 6).filter(Number.isInteger);
  const x = { from: -0.6, to: tokens + 0.6, ticks: whole, label: "tokens in a cluster" };
  const y = { from: 0, to: most, ticks: ticks(0, most, 4), label: "share of members" };
  const chart = new Chart(canvas, x, y);
  const { colours } = chart;
  chart.clip(() => {
    // Splits that attention pulls together faster than noise keeps them apart.
    for (let k = 1; k < tokens; k++) {
      const grows = forcing > 0 || splitGrowth(k / tokens, beta, strength) > symmetric ** 2;
      const unstable = scheme === "post" && grows;
      if (unstable) chart.band([[k - 0.5, 0, most], [k + 0.5, 0, most]], colours.muted, 0.16);
    }
    shares.forEach((share, k) => chart.bar(k, share, colours.plus, 0.85));
    chart.line([...law.entries()], colours.ink, { dashed: true, width: 1.5 });
  });
}
