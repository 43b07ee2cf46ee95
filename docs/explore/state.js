// The numbers that make a run, their controls, and their way into the address of the page and back.

/** One row a control: name, symbol, words, range or choices. The names are those of rqf_jax. */
export const CONTROLS = [
  {
    name: "symmetric",
    symbol: "σ<sub>s</sub>",
    words: "common noise that aligns",
    min: 0,
    max: 2,
    step: 0.05,
  },
  {
    name: "antisymmetric",
    symbol: "σ<sub>a</sub>",
    words: "common noise that turns",
    min: 0,
    max: 2,
    step: 0.05,
  },
  { name: "strength", symbol: "λ", words: "strength of attention", min: 0, max: 3, step: 0.05 },
  { name: "beta", symbol: "β", words: "focus of attention", min: 0, max: 6, step: 0.05 },
  { name: "forcing", symbol: "g", words: "common random push", min: 0, max: 2, step: 0.05 },
  {
    name: "scheme",
    symbol: "norm",
    words: "where layers normalise",
    choices: { post: "Post-LN", pre: "Pre-LN" },
  },
  { name: "tokens", symbol: "N", words: "tokens", min: 2, max: 64, step: 1 },
  { name: "members", symbol: "M", words: "members: copies with other noise", min: 1, max: 64, step: 1 },
  { name: "horizon", symbol: "T", words: "end of the run, in units of time", min: 2, max: 32, step: 2 },
  { name: "seed", symbol: "seed", words: "number of the noise", min: 0, max: 999999, step: 1 },
];

const DEFAULTS = {
  symmetric: 1,
  antisymmetric: 0,
  strength: 0,
  beta: 2,
  forcing: 0,
  scheme: "post",
  tokens: 24,
  members: 24,
  horizon: 8,
  seed: 1,
};

/** Settings to start from: words for the button, what to look for, and the numbers that differ. */
export const PRESETS = [
  {
    words: "Noise alone",
    look:
      "No token attends to any other, and still they gather at two opposite points: one random " +
      "matrix moves them all. The mean angle of a pair never changes.",
    numbers: {},
  },
  {
    words: "Attention alone",
    look:
      "Without noise every token moves towards those that it attends to, and all meet in one " +
      "point. Raise β: the tokens stay longer in several clusters.",
    numbers: { symmetric: 0, strength: 1, beta: 4, members: 8 },
  },
  {
    words: "Attention against noise",
    look:
      "Noise keeps opposite clusters apart, attention pulls them together. Drag the point in the " +
      "(β, σₛ) plane across the boundary.",
    numbers: { symmetric: 0.5, strength: 1, beta: 1.5, horizon: 16 },
  },
  {
    words: "A common push",
    look:
      "A random push that is the same for all: two clusters form first, wait for a time of about " +
      "2.2/(σₛ g), and merge.",
    numbers: { forcing: 0.25, horizon: 16 },
  },
  {
    words: "Rotation only",
    look: "Antisymmetric noise turns the whole cloud like a rigid body: no angle changes.",
    numbers: { symmetric: 0, antisymmetric: 1 },
  },
  {
    words: "Pre-LN",
    look:
      "Tokens keep their radii, and layers read directions alone. Random layers make radii grow, " +
      "so that later layers turn tokens less: order comes ever more slowly.",
    numbers: { antisymmetric: 1, scheme: "pre", horizon: 16 },
  },
];

/** The state of a preset. */
export const presetState = ({ numbers }) => ({ ...DEFAULTS, ...numbers });

/** The nearest value that a control allows; undefined if there is none. */
function allowed({ choices, min, max, step }, value) {
  if (choices) return value in choices ? value : undefined;
  if (!Number.isFinite(Number(value))) return undefined;
  const steps = Math.round((value - min) / step);
  return Number(Math.min(max, Math.max(min, min + steps * step)).toFixed(6));
}

/** A state with every value in its range. */
export function checked(values) {
  const found = CONTROLS.map((control) => {
    const { name } = control;
    return [name, allowed(control, values[name] ?? DEFAULTS[name]) ?? DEFAULTS[name]];
  });
  return Object.fromEntries(found);
}

/** The state as the part of an address after #. */
export const toHash = (state) =>
  CONTROLS.map(({ name }) => `${name}=${state[name]}`).join("&");

/** The state that an address asks for; what it does not say is as usual. */
export const fromHash = (hash) =>
  checked(Object.fromEntries(new URLSearchParams(hash.replace(/^#/, ""))));
