"""Kernels for a GPU, assembled without one: registers, spills and bytes of code.

    python benchmarks/aot.py [--arch sm_90]

Needs NVIDIA's assembler `ptxas` on the path (it comes with the CUDA toolkit and with the package
nvidia-cuda-nvcc). `sm_90` is an H100 or H200.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
from accuracy import table

import rqf_jax as rqf
from rqf_jax import solvers
from rqf_jax._ensemble.kernel import step_of
from rqf_jax._fused import gpu
from rqf_jax._fused.loop import loop

MODELS = {
    "noise": lambda: rqf.models.random_quadratic_form(1.0),
    "noise and attention": lambda: rqf.models.noisy_attention(1.0, 1.0),
    "noise of two kinds": lambda: rqf.models.forced_rqf(1.0, 0.5),
    "random values": lambda: rqf.models.stochastic_transformer(1.0),
}
SHAPES = {
    "noise": [(2, 3), (8, 3), (32, 3), (8, 4)],
    "noise and attention": [(2, 3), (8, 3)],
    "noise of two kinds": [(8, 3)],
    "random values": [(8, 3)],
}


def assembled(name: str, shape: tuple[int, int], arch: str) -> list[str]:
    """A row of the table: a kernel's registers, spilled bytes and bytes of code."""
    sde = MODELS[name]()
    state = jax.ShapeDtypeStruct(shape, jnp.float32)
    *_, solver = solvers.variants(solvers.default(sde), sde, state, jnp.float32(0.01))[0]
    text = gpu.ptx(loop(step_of(sde, solver, state), 1))
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "k.ptx"), Path(folder, "k.cubin")
        source.write_text(text, encoding="utf-8")
        done = subprocess.run(
            ["ptxas", f"-arch={arch}", "-v", "-o", str(out), str(source)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        size = out.stat().st_size
    registers = re.search(r"Used (\d+) registers", done.stderr)
    spills = re.search(r"(\d+) bytes spill stores", done.stderr)
    found = [registers[1] if registers else "?", spills[1] if spills else "0"]
    lines = len(re.findall(r";$", text, re.MULTILINE))
    return [name, "×".join(map(str, shape)), *found, str(lines), str(size)]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--arch", default="sm_90", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if shutil.which("ptxas") is None:
        parser.exit(2, "`ptxas` is not on the path; install the CUDA toolkit.\n")
    rows = [assembled(name, shape, options.arch) for name in MODELS for shape in SHAPES[name]]
    head = ["kernel", "tokens × dim", "registers", "spilled bytes", "PTX lines", "bytes of code"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
