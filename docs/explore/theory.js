// Closed forms of rqf_jax.theory, and the equation of one pair of tokens, for dimension 3.
//
// The angle θ of two tokens follows a diffusion of its own without attention, and with it if they
// are the only two: generator A(θ) ∂² + B(θ) ∂ with
//
//   A = σ_s² sin²θ + 2 g² sin²(θ/2),   B = -g² tan(θ/2) - 2 λ w(cos θ) sin θ.

import { STEPS, SUBSTEPS } from "./dynamics.js";

const logistic = (x) => 1 / (1 + Math.exp(-x));

/** theory.attention.softmax_weight: the weight of the other of two tokens at overlap r. */
const weight = (r, beta) => logistic(-beta * (1 - r));

/** σ_c = √(2λ/(1 + e^{2β})): two tokens may end opposite above it, and never below. */
export const criticalSigma = (beta, strength) =>
  Math.sqrt(Math.max(0, 2 * strength) * logistic(-2 * beta));

/** theory.attention.softmax_split_rate without noise: a split with a share f grows apart if it
 *  is above σ_s². */
export function splitGrowth(fraction, beta, strength) {
  const odds = Math.log(fraction / (1 - fraction));
  return strength * (logistic(-2 * beta - odds) + logistic(odds - 2 * beta));
}

/**
 * The late slope of the mean of ln sin θ over all pairs, once `plus` tokens are close to a point
 * and `minus` to its antipode. With forcing only one cluster lasts.
 */
export function lateSlope({ symmetric, beta, strength, forcing }, plus, minus) {
  const tokens = plus + minus;
  if (minus === 0 || plus === 0) return -(symmetric ** 2) - strength - forcing ** 2;
  const odds = Math.log(plus / minus) / 2;
  const apart = splitGrowth(plus / tokens, beta, strength);
  const sum =
    2 * plus * minus * apart -
    strength * plus * (plus - 1) * Math.tanh(beta + odds) -
    strength * minus * (minus - 1) * Math.tanh(beta - odds);
  return sum / (tokens * (tokens - 1)) - symmetric ** 2;
}

/** theory.forcing.weak_merge_time in dimension 3: how long opposite tokens stay opposite. */
export const mergeTime = ({ symmetric, forcing }) => Math.PI / (Math.SQRT2 * symmetric * forcing);

/** Growth of the mean of |X_i|² in a unit of time under Pre-LN without attention: E |dA x + g dW|². */
export const radiusGrowth = ({ symmetric, antisymmetric, forcing }) =>
  2 * symmetric ** 2 + antisymmetric ** 2 + 3 * forcing ** 2;

/** theory.sphere.cluster_size_distribution: Binomial(N, 1/2). */
export function binomial(tokens) {
  const shares = [0.5 ** tokens];
  for (let k = 0; k < tokens; k++) shares.push((shares[k] * (tokens - k)) / (k + 1));
  return shares;
}

/**
 * theory.attention.antipodal_probability from a right angle: ∫_0^∞ s' du / ∫ s' du with
 * s' = sech u exp(-(2λ/σ²) ∫_0^u w(tanh v) dv), by the trapezoid rule in the rapidity u.
 */
export function oppositeProbability(beta, strength, sigma) {
  const pull = (u) => ((2 * strength) / sigma ** 2) * weight(Math.tanh(u), beta);
  const [reach, du] = [12, 0.1];
  if (pull(-reach) >= 1) return 0;
  const half = (sign) => {
    let [exponent, sum, before] = [0, 0.5, pull(0)];
    for (let k = 1; k <= reach / du; k++) {
      const next = pull(sign * k * du);
      exponent += (sign * du * (before + next)) / 2;
      before = next;
      sum += Math.exp(-exponent) / Math.cosh(k * du) / (k * du < reach - du / 2 ? 1 : 2);
    }
    // Beyond the reach the density is an exponential.
    const tail = Math.exp(-exponent) / Math.cosh(reach) / (1 + sign * before);
    return du * sum + tail;
  };
  const [below, above] = [half(-1), half(1)];
  return above / (above + below);
}

const CELLS = 256;
const REFINEMENT = 2; // time steps of the pair's equation in a save interval

/** Whether the pair's equation holds for these tokens. */
export const pairIsClosed = ({ tokens, strength, scheme }) =>
  scheme === "post" && (strength === 0 || tokens === 2);

/**
 * Means of cos θ, cos² θ and θ at every save, over pairs that start at `angles`: Crank and
 * Nicolson's scheme for the backward equation ∂_t f = A f'' + B f'.
 */
export function pairMeans(state, angles) {
  const grid = Array.from({ length: CELLS + 1 }, (_, i) => (Math.PI * i) / CELLS);
  const shares = spread(angles);
  const functions = { cosine: Math.cos, square: (t) => Math.cos(t) ** 2, angle: (t) => t };
  const [lower, middle, upper] = generator(state, grid);
  const dt = SUBSTEPS / STEPS / REFINEMENT;
  const means = {};
  for (const [name, start] of Object.entries(functions)) {
    let f = grid.map(start);
    const average = () => f.reduce((sum, value, i) => sum + shares[i] * value, 0);
    means[name] = [average()];
    for (let k = 1; k <= (state.horizon * STEPS * REFINEMENT) / SUBSTEPS; k++) {
      f = crankNicolson(f, lower, middle, upper, dt);
      if (k % REFINEMENT === 0) means[name].push(average());
    }
  }
  return means;
}

/** The three diagonals of A ∂² + B ∂ on the grid. */
function generator({ symmetric, strength, beta, forcing }, grid) {
  const d = Math.PI / CELLS;
  const [lower, middle, upper] = [[], [], []];
  grid.forEach((theta, i) => {
    let spreading = (symmetric * Math.sin(theta)) ** 2 + 2 * (forcing * Math.sin(theta / 2)) ** 2;
    let drift = -2 * strength * weight(Math.cos(theta), beta) * Math.sin(theta);
    if (i === 0) [spreading, drift] = [0, 0];
    if (i < CELLS) drift -= forcing ** 2 * Math.tan(theta / 2);
    // Tokens leave θ = π, where f' = 0 and B f' adds as much as A f''.
    else [spreading, drift] = [4 * forcing ** 2, 0];
    // Where drift prevails over a cell, upwind.
    spreading = Math.max(spreading, (Math.abs(drift) * d) / 2);
    lower.push(spreading / d ** 2 - drift / (2 * d));
    upper.push(spreading / d ** 2 + drift / (2 * d));
    middle.push((-2 * spreading) / d ** 2);
  });
  // The mirror image of the last cell.
  lower[CELLS] += upper[CELLS];
  return [lower, middle, upper];
}

/** (1 - L dt/2)⁻¹ (1 + L dt/2) f, by elimination. */
function crankNicolson(f, lower, middle, upper, dt) {
  const h = dt / 2;
  const right = f.map(
    (value, i) =>
      value + h * (middle[i] * value + lower[i] * (f[i - 1] ?? 0) + upper[i] * (f[i + 1] ?? 0)),
  );
  const factors = [];
  for (let i = 0; i <= CELLS; i++) {
    const pivot = 1 - h * middle[i] + (i ? h * lower[i] * factors[i - 1] : 0);
    factors.push((-h * upper[i]) / pivot);
    right[i] = (right[i] + (i ? h * lower[i] * right[i - 1] : 0)) / pivot;
  }
  for (let i = CELLS - 1; i >= 0; i--) right[i] -= factors[i] * right[i + 1];
  return right;
}

/** The angles as shares of the grid points, each divided between its two neighbours. */
function spread(angles) {
  const shares = new Float64Array(CELLS + 1);
  for (const angle of angles) {
    const place = Math.min((angle / Math.PI) * CELLS, CELLS - 1e-9);
    const i = Math.floor(place);
    shares[i] += (1 - place + i) / angles.length;
    shares[i + 1] += (place - i) / angles.length;
  }
  return shares;
}

/** Root mean square orders of N tokens from means over their pairs. */
export function orders(tokens, { cosine, square }) {
  const over = (mean) => 1 / tokens + (1 - 1 / tokens) * mean;
  return {
    polar: cosine.map((mean) => Math.sqrt(Math.max(0, over(mean)))),
    nematic: square.map((mean) => Math.sqrt(Math.max(0, 1.5 * (over(mean) - 1 / 3)))),
  };
}
