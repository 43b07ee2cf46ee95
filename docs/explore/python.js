// The run on the page as a program for rqf_jax.

import { STEPS, SUBSTEPS } from "./dynamics.js";

const decimal = (value) => (Number.isInteger(value) ? `${value}.0` : `${value}`);

/** A program that makes the same trajectories. */
export function toPython(state) {
  const saves = STEPS / SUBSTEPS;
  return `import jax
import numpy as np
import rqf_jax as rqf

sde = rqf.SDE(
    rqf.drifts.Attention(beta=${decimal(state.beta)}, strength=${decimal(state.strength)}),
    rqf.noises.Sum(
        rqf.noises.IsotropicNoise(
            symmetric=${decimal(state.symmetric)}, antisymmetric=${decimal(state.antisymmetric)}
        ),
        rqf.noises.BiasNoise(sigma=${decimal(state.forcing)}),
    ),
    rqf.manifolds.Sphere(),
)
${state.scheme === "pre" ? 'sde = rqf.models.normalised(sde, "pre")\n' : ""}runs = rqf.simulate(
    sde,
    rqf.laws.Uniform(tokens=${state.tokens}, dim=3),
    np.arange(${state.horizon * saves + 1}) / ${saves},
    substeps=${SUBSTEPS},
    members=${state.members},
    key=jax.random.key(${state.seed}),
)
sphere = rqf.manifolds.Sphere()
order = runs.observe(lambda x: rqf.observables.nematic_order(sphere.project(x)))
print(f"nematic order of member 0 at t = ${state.horizon}: {order[0, -1]:.4f}")
`;
}
