// Small charts on a canvas: axes, curves, bands, bars.

/** The colours of the page, by name, as the style sheet has them at the moment. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--${name}`).trim() });
}

/** A canvas as sharp as the screen: its context, in units of CSS pixels, and its size. */
export function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { width, height } = canvas.getBoundingClientRect();
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

export const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

const DASHES = [6, 4];

/** A frame with axes; `x` and `y` are {from, to, ticks, label, format}. */
export class Chart {
  constructor(canvas, x, y) {
    Object.assign(this, fitted(canvas), { xAxis: x, yAxis: y });
    this.colours = colours();
    this.left = 42;
    this.right = this.width - 10;
    this.top = y.label ? 26 : 10;
    this.bottom = this.height - 34;
    this.context.font = FONT;
    this.#axes();
  }

  x(value) {
    const { from, to } = this.xAxis;
    return this.left + ((value - from) / (to - from)) * (this.right - this.left);
  }

  y(value) {
    const { from, to } = this.yAxis;
    return this.bottom - ((value - from) / (to - from)) * (this.bottom - this.top);
  }

  #axes() {
    const { context, colours, xAxis, yAxis } = this;
    const show = (axis, tick) => (axis.format ? axis.format(tick) : `${tick}`.replace("-", "−"));
    context.lineWidth = 1;
    context.strokeStyle = colours.grid;
    context.fillStyle = colours.muted;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of yAxis.ticks) {
      const y = Math.round(this.y(tick)) + 0.5;
      this.#stroke([[this.left, y], [this.right, y]]);
      context.fillText(show(yAxis, tick), this.left - 6, y);
    }
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const tick of xAxis.ticks) {
      const x = Math.round(this.x(tick)) + 0.5;
      this.#stroke([[x, this.bottom], [x, this.bottom + 4]]);
      context.fillText(show(xAxis, tick), x, this.bottom + 6);
    }
    context.textBaseline = "bottom";
    context.fillText(xAxis.label, (this.left + this.right) / 2, this.height - 1);
    context.textAlign = "left";
    context.textBaseline = "top";
    context.fillText(yAxis.label ?? "", 2, 1);
  }

  #stroke(points) {
    this.context.beginPath();
    points.forEach(([x, y], i) => (i ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
    this.context.stroke();
  }

  /** Draw only inside the frame. */
  clip(draw) {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(this.left, this.top - 3, this.right - this.left, this.bottom - this.top + 6);
    context.clip();
    draw();
    context.restore();
  }

  /** A curve through points [x, y]; theory is dashed. */
  line(points, colour, { width = 2, alpha = 1, dashed = false } = {}) {
    const { context } = this;
    context.save();
    context.globalAlpha = alpha;
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dashed ? DASHES : []);
    this.#stroke(points.map(([x, y]) => [this.x(x), this.y(y)]));
    context.restore();
  }

  /** The region between two curves, points [x, low, high]. */
  band(points, colour, alpha = 0.18) {
    const { context } = this;
    context.save();
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    context.beginPath();
    for (const [x, low] of points) context.lineTo(this.x(x), this.y(low));
    for (const [x, , high] of [...points].reverse()) context.lineTo(this.x(x), this.y(high));
    context.fill();
    context.restore();
  }

  /** A bar of unit width around x. */
  bar(x, height, colour, alpha = 1) {
    const { context } = this;
    context.save();
    context.globalAlpha = alpha;
    context.fillStyle = colour;
    const [start, end] = [this.x(x - 0.4), this.x(x + 0.4)];
    context.fillRect(start, this.y(height), Math.max(1, end - start), this.bottom - this.y(height));
    context.restore();
  }
}

/** About `count` round numbers from `from` to `to`. */
export function ticks(from, to, count = 5) {
  const rough = (to - from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 4, 5, 10].map((k) => k * power).find((k) => k >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(from / step); k * step <= to + 1e-9; k++) {
    found.push(Number((k * step).toFixed(10)));
  }
  return found;
}
