// Numbers of one state of tokens on the sphere: order, angles, clusters.

/** |x_a × x_b| and <x_a, x_b>: the sine, precise near 0 and π, and the cosine of their angle. */
function sineAndCosine(x, a, b) {
  const [i, j] = [3 * a, 3 * b];
  const p = x[i + 1] * x[j + 2] - x[i + 2] * x[j + 1];
  const q = x[i + 2] * x[j] - x[i] * x[j + 2];
  const r = x[i] * x[j + 1] - x[i + 1] * x[j];
  const cosine = x[i] * x[j] + x[i + 1] * x[j + 1] + x[i + 2] * x[j + 2];
  return [Math.sqrt(p * p + q * q + r * r), cosine];
}

/** The angle of tokens a and b of x, in radians. */
export const pairAngle = (x, a, b) => Math.atan2(...sineAndCosine(x, a, b));

/** All pairs a < b of so many tokens. */
export function pairsOf(tokens) {
  const pairs = [];
  for (let a = 0; a < tokens; a++) for (let b = a + 1; b < tokens; b++) pairs.push([a, b]);
  return pairs;
}

/** observables.polar_order: the length of the mean token. */
export function polarOrder(x) {
  const sum = [0, 0, 0];
  for (let i = 0; i < x.length; i += 3) for (let k = 0; k < 3; k++) sum[k] += x[i + k];
  return (3 * Math.hypot(...sum)) / x.length;
}

/** The second moments Σ_a x_a x_aᵀ / N of the tokens, by rows. */
function moments(x) {
  const m = new Float64Array(9);
  for (let i = 0; i < x.length; i += 3) {
    for (let k = 0; k < 3; k++) for (let l = 0; l < 3; l++) m[3 * k + l] += x[i + k] * x[i + l];
  }
  return m.map((entry) => (3 * entry) / x.length);
}

/** observables.nematic_order: 1 for tokens on one line, about 0 for tokens all over the sphere. */
export function nematicOrder(x) {
  const square = moments(x).reduce((sum, entry, k) => sum + (entry - (k % 4 ? 0 : 1 / 3)) ** 2, 0);
  return Math.sqrt(1.5 * square);
}

/** The line that the tokens are nearest to: the leading eigenvector of their second moments. */
export function mainAxis(x) {
  let m = moments(x);
  // Repeated squaring: the leading eigenvalue outgrows the others.
  for (let k = 0; k < 12; k++) {
    const square = new Float64Array(9);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        for (let l = 0; l < 3; l++) square[3 * i + j] += m[3 * i + l] * m[3 * l + j];
      }
    }
    const trace = square[0] + square[4] + square[8];
    m = square.map((entry) => entry / trace);
  }
  const best = [0, 1, 2].reduce((a, b) => (m[4 * b] > m[4 * a] ? b : a));
  const column = [m[best], m[3 + best], m[6 + best]];
  const length = Math.hypot(...column);
  return column.map((entry) => entry / length);
}

/** The side of the plane across an axis that each token is on: true or false. */
export function sides(x, axis = mainAxis(x)) {
  return Array.from(
    { length: x.length / 3 },
    (_, a) => x[3 * a] * axis[0] + x[3 * a + 1] * axis[1] + x[3 * a + 2] * axis[2] > 0,
  );
}

/** How many tokens are on the first of the two sides. */
export const clusterSize = (x) => sides(x).filter(Boolean).length;

/** What the curves show of one state: squared orders, and means over all pairs of tokens. */
export function measure(x) {
  const tokens = x.length / 3;
  let [angle, logSine] = [0, 0];
  for (let a = 0; a < tokens; a++) {
    for (let b = a + 1; b < tokens; b++) {
      const [sine, cosine] = sineAndCosine(x, a, b);
      angle += Math.atan2(sine, cosine);
      logSine += Math.log(Math.max(sine, 1e-16));
    }
  }
  const pairs = (tokens * (tokens - 1)) / 2;
  return {
    polar: polarOrder(x) ** 2,
    nematic: nematicOrder(x) ** 2,
    angle: angle / pairs,
    logSine: logSine / pairs,
  };
}
