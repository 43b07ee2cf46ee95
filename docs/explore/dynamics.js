// Tokens on the sphere S², moved as rqf_jax.simulate moves them by default:
//
//   dX_i = P [ λ Σ_j softmax_j(β<X_i, X_j>) X_j dt - ∂A X_i + g ∂W ],   A = σ_s Q + σ_a R
//
// in the sense of Stratonovich, with one matrix A and one vector W for all tokens of a member; or,
// under Pre-LN, dX_i = the same without P, of the directions X_i/|X_i| on the right, in Itô's sense.

import { key, memberKeys, normal, normalPair, stream } from "./threefry.js";

/** Micro-steps in a unit of time, and in a save interval. */
export const STEPS = 64;
export const SUBSTEPS = 8;

const DIM = 3;
const PAIRS = 6; // 9 normals for the matrix and 3 for the vector, two at a time

/** One member: `state.tokens` tokens with the noise of their own number; `x` holds coordinates. */
export class Member {
  constructor(state, number) {
    const [lawKey, noiseKey] = memberKeys(key(state.seed), number);
    this.state = state;
    this.step = 0;
    this.stream = stream(noiseKey);
    this.x = uniformTokens(lawKey, state.tokens);
    this.velocity = state.strength === 0 ? null : new Float64Array(this.x.length);
  }

  /** One micro-step. */
  advance() {
    const dw = this.#noise();
    if (this.state.scheme === "pre") {
      layerStep(this.state, this.x, this.velocity, dw);
    } else {
      // The solver begins anew in every save interval.
      if (this.velocity && this.step % SUBSTEPS === 0) pull(this.state, this.x, this.velocity);
      projectiveStep(this.state, this.x, this.velocity, dw);
    }
    this.step += 1;
  }

  /** The tokens without their radii. */
  get directions() {
    return this.state.scheme === "pre" ? normalise(Float64Array.from(this.x)) : this.x;
  }

  /** The mean of |X_i|² over the tokens: 1 on the sphere. */
  get squaredRadius() {
    return (DIM * this.x.reduce((sum, entry) => sum + entry * entry, 0)) / this.x.length;
  }

  /** The Brownian increment of a step: a 3 x 3 matrix by rows, then a vector. */
  #noise() {
    const root = Math.sqrt(1 / STEPS);
    const dw = new Float64Array(2 * PAIRS);
    for (let pair = 0; pair < PAIRS; pair++) {
      const [first, second] = normalPair(this.stream, this.step, pair);
      dw[pair] = root * first;
      dw[pair + PAIRS] = root * second;
    }
    return dw;
  }
}

/** rqf_jax.laws.Uniform: normal vectors over their lengths. */
function uniformTokens(lawKey, tokens) {
  const x = Float64Array.from({ length: DIM * tokens }, (_, i) => normal(lawKey, i));
  return normalise(x);
}

/** The length of the vector at `i`; several times as fast as Math.hypot. */
const length = (x, i) => Math.sqrt(x[i] * x[i] + x[i + 1] * x[i + 1] + x[i + 2] * x[i + 2]);

/** Divide every token by its length, in place. */
function normalise(x) {
  for (let i = 0; i < x.length; i += DIM) {
    const scale = 1 / length(x, i);
    for (let k = i; k < i + DIM; k++) x[k] *= scale;
  }
  return x;
}

/** What softmax attention makes of unit tokens `x`, λ times a weighted mean, written into `out`. */
function attention({ beta, strength }, x, out) {
  const tokens = x.length / DIM;
  const norms = new Float64Array(tokens).fill(1); // a token's own weight is e^0
  out.set(x);
  for (let a = 0; a < tokens; a++) {
    const i = DIM * a;
    for (let b = a + 1; b < tokens; b++) {
      const j = DIM * b;
      const overlap = x[i] * x[j] + x[i + 1] * x[j + 1] + x[i + 2] * x[j + 2];
      const weight = Math.exp(beta * (overlap - 1));
      norms[a] += weight;
      norms[b] += weight;
      out[i] += weight * x[j];
      out[i + 1] += weight * x[j + 1];
      out[i + 2] += weight * x[j + 2];
      out[j] += weight * x[i];
      out[j + 1] += weight * x[i + 1];
      out[j + 2] += weight * x[i + 2];
    }
  }
  for (let a = 0; a < tokens; a++) {
    const i = DIM * a;
    const scale = strength / norms[a];
    for (let k = i; k < i + DIM; k++) out[k] *= scale;
  }
}

/** The velocity by attention on the sphere, written into `out`. */
function pull(state, x, out) {
  attention(state, x, out);
  for (let i = 0; i < x.length; i += DIM) tangent(x, out, i);
}

/** Remove from the vector at `i` of `v` its part along the token at `i` of `x`. */
function tangent(x, v, i) {
  const along = x[i] * v[i] + x[i + 1] * v[i + 1] + x[i + 2] * v[i + 2];
  for (let k = i; k < i + DIM; k++) v[k] -= along * x[k];
}

/**
 * A step of solvers.ProjectiveFlow: half a step of drift, the random linear map, the random push,
 * half a step of drift with the velocity found where a whole step leads. `velocity` is that at the
 * start, and becomes that at the end; null without a drift.
 */
function projectiveStep(state, x, velocity, dw) {
  const half = 0.5 / STEPS;
  const flow = exponential(logFlow(state, dw));
  const push = dw.subarray(DIM * DIM);
  const move = (y) => pushed(normalise(transformed(flow, y)), push, state.forcing);
  if (velocity === null) {
    x.set(move(x));
    return;
  }
  const near = x.map((coordinate, i) => coordinate + half * velocity[i]);
  const far = x.map((coordinate, i) => coordinate + 2 * half * velocity[i]);
  const middle = move(near);
  pull(state, move(far), velocity);
  for (let i = 0; i < x.length; i++) x[i] = middle[i] + half * velocity[i];
  normalise(x);
}

/** A step of solvers.GeodesicEuler in flat space under models.normalised(..., "pre"): a layer. */
function layerStep(state, x, velocity, dw) {
  const directions = normalise(Float64Array.from(x));
  const moved = transformed(blend(state.symmetric, state.antisymmetric, dw), directions);
  if (velocity) attention(state, directions, velocity);
  for (let i = 0; i < x.length; i++) {
    const pushes = state.forcing * dw[DIM * DIM + (i % DIM)];
    x[i] += (velocity ? velocity[i] / STEPS : 0) - moved[i] + pushes;
  }
}

/** IsotropicNoise.log_flow: the matrix Ω, with the two strengths of a weak scheme of order 2. */
function logFlow({ symmetric, antisymmetric }, dw) {
  const h = 1 / STEPS;
  const [s2, a2] = [symmetric ** 2, antisymmetric ** 2];
  const s = symmetric * (1 + DIM * h * (s2 / 24 + a2 / 48)) ** 2;
  const variance =
    a2 * (1 - ((DIM - 2) * h * a2) / 48) ** 2 + (DIM + 2) * h * s2 * (s2 / 8 + a2 / 6);
  const a = Math.sqrt(variance);
  return blend(-s, -a, dw);
}

/** s (dw + dwᵀ)/2 + a (dw - dwᵀ)/2. */
function blend(s, a, dw) {
  const out = new Float64Array(DIM * DIM);
  for (let i = 0; i < DIM; i++) {
    for (let j = 0; j < DIM; j++) {
      out[DIM * i + j] = ((s + a) * dw[DIM * i + j] + (s - a) * dw[DIM * j + i]) / 2;
    }
  }
  return out;
}

/** exp(Ω) by Taylor's polynomial of Ω/8 and three squarings. */
export function exponential(omega) {
  const part = omega.map((entry) => entry / 8);
  const identity = Float64Array.from({ length: 9 }, (_, i) => (i % 4 === 0 ? 1 : 0));
  let total = identity;
  for (let degree = 12; degree > 0; degree--) {
    const next = product(part, total);
    total = next.map((entry, i) => entry / degree + identity[i]);
  }
  for (let squaring = 0; squaring < 3; squaring++) total = product(total, total);
  return total;
}

function product(a, b) {
  const out = new Float64Array(9);
  for (let i = 0; i < DIM; i++) {
    for (let j = 0; j < DIM; j++) {
      for (let k = 0; k < DIM; k++) out[DIM * i + j] += a[DIM * i + k] * b[DIM * k + j];
    }
  }
  return out;
}

/** The linear map applied to every token. */
function transformed(m, x) {
  const out = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += DIM) {
    for (let k = 0; k < DIM; k++) {
      out[i + k] = m[3 * k] * x[i] + m[3 * k + 1] * x[i + 1] + m[3 * k + 2] * x[i + 2];
    }
  }
  return out;
}

/** Every token along a great circle by its tangent part of `strength` times `push`, in place. */
function pushed(x, push, strength) {
  if (strength === 0) return x;
  const step = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += DIM) {
    for (let k = 0; k < DIM; k++) step[i + k] = strength * push[k];
    tangent(x, step, i);
    const angle = length(step, i);
    const sinc = angle > 0 ? Math.sin(angle) / angle : 1;
    const cosine = Math.cos(angle);
    for (let k = i; k < i + DIM; k++) x[k] = cosine * x[k] + sinc * step[k];
  }
  return normalise(x);
}
