// An ensemble on its way: members, what was measured of them at every save, and the path of the
// member that the sphere shows. It is a function of the state alone, so it can always be made again.

import { Member, STEPS, SUBSTEPS } from "./dynamics.js";
import { clusterSize, measure, pairAngle, pairsOf } from "./measure.js";

const SHOWN_PAIRS = 48;

export class Run {
  constructor(state) {
    this.state = { ...state };
    this.last = state.horizon * STEPS;
    this.members = Array.from({ length: state.members }, (_, i) => new Member(this.state, i));
    this.starts = this.members.map((member) => Float64Array.from(member.x));
    this.path = []; // the directions of the tokens of member 0 after every step
    this.fan = someOf(pairsOf(state.tokens), SHOWN_PAIRS);
    this.fans = []; // the angles of these pairs of member 0 at every save
    this.records = this.members.map(() => []);
    this.members.forEach((_, i) => this.#note(i));
  }

  get shown() {
    return this.members[0];
  }

  /** Advance all members to a step, the shown one first, until the clock says `deadline`. */
  advanceTo(step, deadline) {
    const goal = Math.min(step, this.last);
    for (let i = 0; i < this.members.length; i++) {
      const member = this.members[i];
      while (member.step < goal) {
        member.advance();
        this.#note(i);
        if (performance.now() > deadline) return false;
      }
    }
    return true;
  }

  #note(i) {
    const member = this.members[i];
    const saved = member.step % SUBSTEPS === 0;
    if (!saved && i > 0) return;
    const x = Float64Array.from(member.directions);
    if (saved) this.records[i].push(measure(x));
    if (i > 0) return;
    this.path.push(x);
    if (saved) this.fans.push(this.fan.map(([a, b]) => pairAngle(x, a, b)));
  }

  /** Angles of all pairs of all members at the start. */
  startingAngles() {
    return this.starts.flatMap((x) =>
      pairsOf(this.state.tokens).map(([a, b]) => pairAngle(x, a, b)),
    );
  }

  /** The mean of one measured number at every save, with its standard error over members. */
  curve(name) {
    const found = [];
    for (let save = 0; save < this.records[0].length; save++) {
      let [count, sum, square] = [0, 0, 0];
      for (const record of this.records) {
        if (save >= record.length) continue;
        const value = record[save][name];
        count += 1;
        sum += value;
        square += value * value;
      }
      const mean = sum / count;
      const variance = Math.max(0, square / count - mean * mean) / (count - 1);
      found.push({ time: (save * SUBSTEPS) / STEPS, mean, error: Math.sqrt(variance) });
    }
    return found;
  }

  /** The mean of |X_i|² over tokens and members. */
  squaredRadius() {
    const sum = this.members.reduce((total, member) => total + member.squaredRadius, 0);
    return sum / this.members.length;
  }

  /** The share of members with k tokens in a cluster chosen by a fair coin, k = 0, ..., N. */
  clusterSizes() {
    const { tokens, members } = this.state;
    const shares = new Float64Array(tokens + 1);
    for (const member of this.members) {
      const size = clusterSize(member.directions);
      shares[size] += 0.5 / members;
      shares[tokens - size] += 0.5 / members;
    }
    return shares;
  }
}

/** At most `most` of a list, evenly. */
function someOf(list, most) {
  const stride = Math.max(1, Math.ceil(list.length / most));
  return list.filter((_, i) => i % stride === 0);
}
