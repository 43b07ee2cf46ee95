// The tokens of one member on the sphere, with the paths that they came by. Drag or use the arrow
// keys to turn it.

import { colours, fitted } from "./chart.js";
import { mainAxis, sides } from "./measure.js";

const TRAIL = 40;
const SHADES = 5;
const TURN = 0.1;

export class Globe {
  constructor(canvas, onTurn) {
    this.canvas = canvas;
    this.yaw = 0.6;
    this.pitch = 0.35;
    this.onTurn = onTurn;
    this.#listen();
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.#turn(event.movementX * 0.008, event.movementY * 0.008);
    });
    const keys = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const way = keys[event.key];
      if (!way) return;
      event.preventDefault();
      this.#turn(way[0] * TURN, way[1] * TURN);
    });
  }

  #turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.onTurn();
  }

  /** Coordinates on the screen, to the right and up, and towards the eye. */
  #seen(x, y, z) {
    const [c, s] = [Math.cos(this.yaw), Math.sin(this.yaw)];
    const [right, depth] = [c * x + s * y, -s * x + c * y];
    const [cp, sp] = [Math.cos(this.pitch), Math.sin(this.pitch)];
    return [right, cp * z + sp * depth, sp * z - cp * depth];
  }

  /** Draw the tokens at the end of `path`, a list of states. */
  draw(path) {
    const { context, width, height } = fitted(this.canvas);
    this.colours = colours();
    this.context = context;
    this.radius = Math.min(width, height) / 2 - 14;
    this.centre = [width / 2, height / 2];
    const x = path[path.length - 1];
    const plus = sides(x, this.#steadyAxis(x));
    const trail = path.slice(-TRAIL - 1).map((old) => plus.map((_, a) => this.#token(old, a)));
    const tokens = trail[trail.length - 1].map((place, a) => ({ place, plus: plus[a] }));
    tokens.sort((one, other) => one.place[2] - other.place[2]);
    const half = (front) => {
      this.#graticule(front);
      this.#trails(trail, plus, front);
      tokens
        .filter(({ place }) => place[2] >= 0 === front)
        .forEach((token) => this.#dot(token.place, this.#colour(token.plus)));
    };

    this.#ball();
    half(false);
    this.#line(this.axis);
    this.#veil();
    half(true);
  }

  /** The main axis, with the sign that it had before. */
  #steadyAxis(x) {
    const axis = mainAxis(x);
    const along = axis.reduce((sum, entry, k) => sum + entry * (this.axis?.[k] ?? entry), 0);
    this.axis = along < 0 ? axis.map((entry) => -entry) : axis;
    return this.axis;
  }

  #colour(plus) {
    return plus ? this.colours.plus : this.colours.minus;
  }

  #token(x, a) {
    return this.#seen(x[3 * a], x[3 * a + 1], x[3 * a + 2]);
  }

  #point([right, up]) {
    return [this.centre[0] + this.radius * right, this.centre[1] - this.radius * up];
  }

  #ball() {
    const { context, colours, centre, radius } = this;
    const [x, y] = centre;
    const light = context.createRadialGradient(
      x - radius * 0.35,
      y - radius * 0.45,
      radius * 0.1,
      x,
      y,
      radius * 1.05,
    );
    light.addColorStop(0, colours["ball-light"]);
    light.addColorStop(1, colours["ball-dark"]);
    context.fillStyle = light;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
    context.strokeStyle = colours["ball-edge"];
    context.lineWidth = 1;
    context.stroke();
  }

  /** Half-transparent, so that what is behind the centre looks further away. */
  #veil() {
    const { context, colours, centre, radius } = this;
    context.save();
    context.globalAlpha = 0.55;
    context.fillStyle = colours["ball-veil"];
    context.beginPath();
    context.arc(...centre, radius - 0.5, 0, 2 * Math.PI);
    context.fill();
    context.restore();
  }

  #graticule(front) {
    const { context } = this;
    context.strokeStyle = this.colours["ball-line"];
    context.lineWidth = 1;
    const circle = (at) => {
      context.beginPath();
      let drawing = false;
      for (let k = 0; k <= 72; k++) {
        const place = this.#seen(...at((k * Math.PI) / 36));
        const here = place[2] >= 0 === front;
        if (here) context[drawing ? "lineTo" : "moveTo"](...this.#point(place));
        drawing = here;
      }
      context.stroke();
    };
    for (let m = 0; m < 6; m++) {
      const [c, s] = [Math.cos((m * Math.PI) / 6), Math.sin((m * Math.PI) / 6)];
      circle((t) => [c * Math.cos(t), s * Math.cos(t), Math.sin(t)]);
    }
    for (let p = -2; p <= 2; p++) {
      const [r, z] = [Math.cos((p * Math.PI) / 6), Math.sin((p * Math.PI) / 6)];
      circle((t) => [r * Math.cos(t), r * Math.sin(t), z]);
    }
  }

  /** The paths of the last steps, fainter the older they are. */
  #trails(trail, plus, front) {
    const { context } = this;
    context.lineWidth = 1.5;
    context.lineCap = "round";
    // As few strokes as can be: one for each colour and shade.
    for (const side of [true, false]) {
      context.strokeStyle = this.#colour(side);
      for (let shade = 0; shade < SHADES; shade++) {
        const bounds = [shade, shade + 1].map((k) => Math.round((k * (trail.length - 1)) / SHADES));
        context.globalAlpha = (0.5 * (shade + 1)) / SHADES;
        context.beginPath();
        for (let a = 0; a < plus.length; a++) {
          if (plus[a] === side) this.#trace(trail, a, ...bounds, front);
        }
        context.stroke();
      }
    }
    context.globalAlpha = 1;
  }

  #trace(trail, a, first, last, front) {
    const { context } = this;
    let drawing = false;
    for (let k = first; k <= last; k++) {
      const place = trail[k][a];
      const here = place[2] >= 0 === front;
      if (here) context[drawing ? "lineTo" : "moveTo"](...this.#point(place));
      drawing = here;
    }
  }

  /** The line that the tokens are nearest to. */
  #line(axis) {
    const { context } = this;
    const place = this.#seen(...axis);
    context.strokeStyle = this.colours.faint;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(...this.#point(place));
    context.lineTo(...this.#point(place.map((coordinate) => -coordinate)));
    context.stroke();
  }

  #dot(place, colour) {
    const { context } = this;
    const size = 4.6 + 1.4 * place[2];
    context.beginPath();
    context.arc(...this.#point(place), size, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    context.strokeStyle = this.colours["dot-edge"];
    context.lineWidth = 1.2;
    context.stroke();
  }
}
