// The plane of β and σ_s: how likely two tokens at a right angle end opposite, the boundary where
// that begins, and a point to drag or to move with the arrow keys.

import { Chart, ticks } from "./chart.js";
import { criticalSigma, oppositeProbability, splitGrowth } from "./theory.js";

const COLUMNS = 48;
const ROWS = 32;
const FINE = 120;

export class Plane {
  /** `onMove` is called with the new {beta, symmetric}. */
  constructor(canvas, beta, sigma, onMove) {
    Object.assign(this, { canvas, beta, sigma, onMove });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#drag(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.#drag(event));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #drag(event) {
    const { chart } = this;
    const share = (value, from, to) => Math.min(1, Math.max(0, (value - from) / (to - from)));
    const across = share(event.offsetX, chart.left, chart.right);
    const up = share(event.offsetY, chart.bottom, chart.top);
    const along = ({ min, max }, part) => min + part * (max - min);
    this.onMove({ beta: along(this.beta, across), symmetric: along(this.sigma, up) });
  }

  #key(event) {
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const way = keys[event.key];
    if (!way) return;
    event.preventDefault();
    const { beta, symmetric } = this.state;
    this.onMove({
      beta: beta + 2 * way[0] * this.beta.step,
      symmetric: symmetric + way[1] * this.sigma.step,
    });
  }

  draw(state) {
    this.state = state;
    const { beta, sigma } = this;
    this.chart = new Chart(
      this.canvas,
      { from: beta.min, to: beta.max, ticks: ticks(beta.min, beta.max, 6), label: "focus β" },
      { from: sigma.min, to: sigma.max, ticks: ticks(sigma.min, sigma.max, 4), label: "noise σₛ" },
    );
    this.chart.clip(() => this.#field(state));
    this.#point(state);
    const where =
      state.symmetric > criticalSigma(state.beta, state.strength)
        ? "opposite clusters can last"
        : "all tokens align";
    this.canvas.setAttribute("aria-valuetext", `β ${state.beta}, σ ${state.symmetric}: ${where}`);
  }

  /** The chances as an image, found anew when λ changes. */
  #shades(strength, colour) {
    if (this.image?.strength === strength && this.image.colour === colour) return this.image;
    const image = new OffscreenCanvas(COLUMNS, ROWS);
    const context = image.getContext("2d");
    context.fillStyle = colour;
    for (let i = 0; i < COLUMNS; i++) {
      for (let j = 0; j < ROWS; j++) {
        const beta = this.beta.min + ((i + 0.5) / COLUMNS) * (this.beta.max - this.beta.min);
        const sigma = this.sigma.min + ((j + 0.5) / ROWS) * (this.sigma.max - this.sigma.min);
        context.globalAlpha = oppositeProbability(beta, strength, sigma);
        context.fillRect(i, ROWS - 1 - j, 1, 1);
      }
    }
    this.image = Object.assign(image, { strength, colour });
    return image;
  }

  #field({ strength, tokens }) {
    const { chart, beta } = this;
    const { context, colours, left, right, top, bottom } = chart;
    context.imageSmoothingEnabled = true;
    const image = this.#shades(strength, colours.minus);
    context.drawImage(image, left, top, right - left, bottom - top);
    if (strength === 0) return;
    const betas = Array.from({ length: FINE + 1 }, (_, i) => (i * beta.max) / FINE);
    const curve = (height) => betas.map((b) => [b, height(b)]);
    const lone = curve((b) => Math.sqrt(splitGrowth(1 / tokens, b, strength)));
    if (tokens > 2) chart.line(lone, colours.ink, { dashed: true, width: 1.2, alpha: 0.7 });
    chart.line(curve((b) => criticalSigma(b, strength)), colours.ink, { dashed: true });
  }

  #point({ beta, symmetric }) {
    const { context, colours } = this.chart;
    context.beginPath();
    context.arc(this.chart.x(beta), this.chart.y(symmetric), 8, 0, 2 * Math.PI);
    context.fillStyle = colours.plus;
    context.fill();
    context.lineWidth = 2.5;
    context.strokeStyle = colours.panel;
    context.stroke();
  }
}
