// The page: a state, a run of it, a clock, and what shows them.

import { STEPS } from "./dynamics.js";
import { clusterSize, nematicOrder, polarOrder } from "./measure.js";
import { drawAngles, drawClusters, drawDistances, drawOrder } from "./panels.js";
import { Plane } from "./plane.js";
import { toPython } from "./python.js";
import { Run } from "./run.js";
import { Globe } from "./sphere.js";
import { CONTROLS, PRESETS, checked, fromHash, presetState, toHash } from "./state.js";
import { criticalSigma, mergeTime, pairIsClosed, radiusGrowth } from "./theory.js";

const BUDGET = 9; // milliseconds of a frame that steps may take
const byId = (id) => document.getElementById(id);
const control = (name) => CONTROLS.find((one) => one.name === name);

let state = fromHash(location.hash);
let run = new Run(state);
let clock = 0; // in steps; the run follows it
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
let speed = 1;
let drawnSaves = 0; // as many saves of all members as the panels show
let waiting = []; // panels to be drawn
let turned = false; // the sphere was turned
let stale = true; // all is to be drawn
const inputs = {};
const frames = []; // milliseconds of work in the last frames

const PANELS = [
  [byId("order"), drawOrder],
  [byId("angles"), drawAngles],
  [byId("distances"), drawDistances],
  [byId("clusters"), drawClusters],
];

const globe = new Globe(byId("sphere"), () => (turned = true));
const plane = new Plane(byId("plane"), control("beta"), control("symmetric"), change);

/** Take new numbers: the same noise is played again from the start up to the present. */
function change(numbers) {
  state = checked({ ...state, ...numbers });
  run = new Run(state);
  clock = Math.min(clock, run.last);
  history.replaceState(null, "", `#${toHash(state)}`);
  showState();
}

function restart(numbers = {}) {
  clock = 0;
  play(true);
  change(numbers);
}

function play(yes) {
  playing = yes;
  byId("play").textContent = yes ? "Pause" : "Play";
}

// ---- controls

function addControl({ name, symbol, words, choices, min, max, step }) {
  const row = document.createElement("div");
  row.className = "control";
  const range = `min="${min}" max="${max}" step="${step}"`;
  const options = Object.entries(choices ?? {}).map(
    ([value, shown]) => `<option value="${value}">${shown}</option>`,
  );
  const fields = {
    choice: `<select id="${name}">${options.join("")}</select>`,
    number: `<input id="${name}" type="number" ${range} />`,
    range: `<output for="${name}"></output><input id="${name}" type="range" ${range} />`,
  };
  const kind = choices ? "choice" : name === "seed" ? "number" : "range";
  row.innerHTML = `<label class="symbol" for="${name}">${symbol}</label>
    <label class="words" for="${name}">${words}</label>${fields[kind]}`;
  const input = row.querySelector("input, select");
  const event = kind === "range" ? "input" : "change";
  input.addEventListener(event, () => change({ [name]: input.value }));
  inputs[name] = { input, output: row.querySelector("output") };
  byId("controls").append(row);
}

function addPreset(preset) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = preset.words;
  button.addEventListener("click", () => restart(presetState(preset)));
  byId("presets").append(button);
  return { preset, button };
}

CONTROLS.forEach(addControl);
const presets = PRESETS.map(addPreset);

byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("play").addEventListener("click", () => {
  if (clock >= run.last) restart();
  else play(!playing);
});
byId("restart").addEventListener("click", () => restart());
byId("again").addEventListener("click", () => restart({ seed: state.seed + 1 }));
byId("speed").addEventListener("change", (event) => (speed = Number(event.target.value)));
byId("copy-python").addEventListener("click", () => copy(toPython(state), "Program"));
byId("copy-link").addEventListener("click", () => copy(location.href, "Link"));
addEventListener("hashchange", () => restart(fromHash(location.hash)));
addEventListener("resize", () => (stale = true));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showState);

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = `${what} copied.`;
  } catch {
    byId("copied").textContent = `Your browser does not allow copying: select the text instead.`;
  }
}

// ---- what depends on the state alone

function showState() {
  for (const [name, { input, output }] of Object.entries(inputs)) {
    if (document.activeElement !== input || input.type === "range") input.value = state[name];
    if (output) output.textContent = state[name];
  }
  byId("python").textContent = toPython(state);
  byId("pre").hidden = state.scheme !== "pre";
  const same = ({ preset }) => toHash(presetState(preset)) === toHash({ ...state, seed: 1 });
  const chosen = presets.find(same);
  presets.forEach((one) => one.button.setAttribute("aria-pressed", one === chosen));
  byId("look").textContent = chosen ? chosen.preset.look : "Your own numbers.";
  showTheory();
  stale = true;
}

const DASHED = '<span class="dashed">Dashed</span>:';

/** What the captions say of theory, by the place of the caption. */
function theoryTexts() {
  const { strength, forcing, symmetric, tokens, beta, scheme } = state;
  const alone = strength === 0 && forcing === 0;
  const means = pairIsClosed(state)
    ? `${DASHED} the mean over all noise.`
    : `No closed form ${scheme === "pre" ? "here under Pre-LN" : "for more than two tokens under attention"}.`;
  const distance = alone
    ? `${DASHED} start − σ<sub>s</sub>² t, exact at all times.`
    : `${DASHED} the late slope at the clusters of the members, once there are any.`;
  const critical = criticalSigma(beta, strength).toFixed(2);
  const boundary =
    `${DASHED} σ<sub>c</sub> = √(2λ/(1 + e<sup>2β</sup>)), here ${critical}; below it all splits merge.` +
    (tokens > 2 ? " Above the thin line all can last." : "");
  const merge = symmetric > 0 ? `, opposite ones after about ${mergeTime(state).toFixed(1)}` : "";
  let clusters = `Grey: splits that attention merges.`;
  if (forcing > 0) clusters = `Grey: all splits merge in the end${merge}.`;
  if (scheme === "pre") clusters = "";
  if (alone) clusters = `${DASHED} Binomial(N, ½), the law at all times.`;
  return {
    "order-theory": means,
    "angle-theory": means,
    "distance-theory": scheme === "pre" ? "" : distance,
    "cluster-theory": clusters,
    "plane-theory":
      (strength === 0 ? "Without attention it is ½ everywhere." : boundary) +
      (scheme === "pre" || forcing > 0 ? " All this is for Post-LN without a push." : ""),
  };
}

function showTheory() {
  for (const [id, text] of Object.entries(theoryTexts())) byId(id).innerHTML = text;
}

// ---- what moves

function showNumbers() {
  const x = run.shown.directions;
  const size = clusterSize(x);
  const numbers = {
    "time t": (run.shown.step / STEPS).toFixed(2),
    nematic: nematicOrder(x).toFixed(3),
    polar: polarOrder(x).toFixed(3),
    sides: `${Math.max(size, state.tokens - size)} + ${Math.min(size, state.tokens - size)}`,
  };
  if (state.scheme === "pre") {
    const growth = radiusGrowth(state) * (run.shown.step / STEPS);
    const theory = state.strength === 0 ? ` (${(1 + growth).toFixed(1)})` : "";
    numbers["mean |X|²"] = `${run.squaredRadius().toFixed(1)}${theory}`;
  }
  byId("numbers").innerHTML = Object.entries(numbers)
    .map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`)
    .join("");
}

let before = performance.now();

function frame(now) {
  const start = performance.now();
  const passed = Math.min(0.1, (now - before) / 1000);
  before = now;
  const step = run.shown.step;
  // A run that is behind its clock catches up first.
  const upToDate = run.advanceTo(Math.floor(clock), start + BUDGET);
  if (playing && upToDate) clock = Math.min(run.last, clock + passed * speed * STEPS);
  if (playing && clock >= run.last && upToDate) play(false);

  if (run.shown.step !== step || turned || stale) {
    globe.draw(run.path);
    showNumbers();
  }
  const saves = run.records.reduce((sum, record) => sum + record.length, 0);
  if (saves !== drawnSaves || stale) waiting = [...PANELS];
  if (stale) plane.draw(state);
  // One panel a frame, so that frames stay short.
  for (const [canvas, draw] of waiting.splice(0, stale ? PANELS.length : 1)) draw(canvas, run);
  [drawnSaves, turned, stale] = [saves, false, false];
  frames.push(performance.now() - start);
  if (frames.length > 240) frames.shift();
  requestAnimationFrame(frame);
}

play(playing);
showState();
requestAnimationFrame(frame);

// For the console, and for tests.
window.explore = {
  frames,
  change,
  play,
  get state() {
    return state;
  },
  get run() {
    return run;
  },
};
