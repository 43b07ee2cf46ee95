"""A second process compiles nothing of the programs that the first one left in JAX's cache."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, jax, jax.numpy as jnp
counts = {}
def count(name, **_):
    counts[name] = counts.get(name, 0) + 1
jax.monitoring.register_event_listener(count)
from rqf_jax.cli.cache import switch_on
switch_on()
import rqf_jax as rqf

def mean(sigma):
    runs = rqf.simulate(
        rqf.models.noisy_attention(2.0, sigma), rqf.laws.Uniform(3, 2), [0.0, 0.1, 0.2],
        substeps=2, members=4, key=jax.random.key(0), save=rqf.observables.polar_order,
    )
    return jnp.mean(runs.ys)

value = float(mean(0.3))
value_in_jit, slope = jax.jit(jax.value_and_grad(mean))(jnp.asarray(0.3))
prefix = "/jax/compilation_cache/"
print(json.dumps([value, float(slope), counts.get(prefix + "cache_misses", 0),
                  counts.get(prefix + "compile_requests_use_cache", 0),
                  counts.get(prefix + "cache_hits", 0)]))
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    def process():
        environment = os.environ | {"RQF_JAX_CACHE": str(tmp_path), "JAX_ENABLE_X64": "0"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    *values, missed, _, _ = process()
    assert missed > 2
    *again, missed, asked, hit = process()
    assert again == values
    assert missed == 0 and hit == asked > 2
