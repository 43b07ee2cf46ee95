// Random numbers as rqf_jax and jax.random make them: Threefry-2x32 with 20 rounds (Salmon et al.,
// SC 2011) as a pure function of a key and a counter. A key is a pair of 32-bit words.

const ROTATIONS = [
  [13, 15, 26, 6],
  [17, 29, 16, 24],
];
const PARITY = 0x1bd11bda;

/** 64 random bits for a 64-bit key and a 64-bit counter, as two unsigned words. */
export function threefry([k0, k1], [c0, c1]) {
  const keys = [k0, k1, k0 ^ k1 ^ PARITY];
  let a = (c0 + k0) | 0;
  let b = (c1 + k1) | 0;
  for (let group = 0; group < 5; group++) {
    for (const rotation of ROTATIONS[group % 2]) {
      a = (a + b) | 0;
      b = ((b << rotation) | (b >>> (32 - rotation))) ^ a;
    }
    a = (a + keys[(group + 1) % 3]) | 0;
    b = (b + keys[(group + 2) % 3] + group + 1) | 0;
  }
  return [a >>> 0, b >>> 0];
}

/** jax.random.key(seed). */
export const key = (seed) => [0, seed >>> 0];

/** jax.random.fold_in(key, number). */
export const foldIn = (parent, number) => threefry(parent, key(number));

/** jax.random.split(key): two keys. */
export const split = (parent) => [threefry(parent, [0, 0]), threefry(parent, [0, 1])];

/** Number `i` of jax.random.bits(key, ..., jnp.uint32). */
export function bits(parent, i) {
  const [a, b] = threefry(parent, [0, i]);
  return (a ^ b) >>> 0;
}

/** Number `i` of jax.random.normal(key, ...) in float32: the inverse error function of a uniform. */
export function normal(parent, i) {
  const unit = (bits(parent, i) >>> 9) * 2 ** -23;
  const lowest = Math.fround(-1 + 2 ** -24);
  const uniform = Math.max(lowest, Math.fround(2 * unit + lowest));
  return Math.fround(Math.SQRT2 * inverseErf(uniform));
}

/** rqf_jax.member_keys(key, member): one key for the initial law, one for the noise. */
export const memberKeys = (parent, member) => split(foldIn(parent, member));

/** The two words that key the noise of a member. */
export const stream = (noiseKey) => [bits(noiseKey, 0), bits(noiseKey, 1)];

/**
 * Two standard normals of a (stream, step, element), by Box and Muller's transform: 31 bits for the
 * radius and 32 for the angle, each rounded to float32 where rqf_jax rounds.
 */
export function normalPair(words, step, element) {
  const [first, second] = threefry(words, [step, element]);
  const level = Math.fround(Math.fround(first >>> 1) + 0.5);
  const radius = Math.fround(Math.sqrt(-2 * Math.log(level * 2 ** -31)));
  const phase = Math.fround(second << 2);
  const angle = Math.fround(phase * (Math.PI * 2 ** -33)) + (second >>> 30) * (Math.PI / 2);
  return [Math.fround(radius * Math.sin(angle)), Math.fround(radius * Math.cos(angle))];
}

// Giles's polynomials for the inverse error function in single precision, in w = -ln(1 - x²)
// ("Approximating the erfinv function", GPU Computing Gems, 2011), highest power first.
const CENTRAL = [
  2.81022636e-8, 3.43273939e-7, -3.5233877e-6, -4.39150654e-6, 2.1858087e-4, -1.25372503e-3,
  -4.17768164e-3, 0.246640727, 1.50140941,
];
const TAIL = [
  -2.00214257e-4, 1.00950558e-4, 1.34934322e-3, -3.67342844e-3, 5.73950773e-3, -7.6224613e-3,
  9.43887047e-3, 1.00167406, 2.83297682,
];

function inverseErf(x) {
  const w = -Math.log1p(-x * x);
  const [powers, argument] = w < 5 ? [CENTRAL, w - 2.5] : [TAIL, Math.sqrt(w) - 3];
  return x * powers.reduce((total, coefficient) => total * argument + coefficient);
}
