"""Runs in processes of their own: killed, short of disk or memory, on many devices and hosts."""

import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import _stores
import pytest
from _stores import PARTICLE, TINY, contents

from rqf_jax import _store, io

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_figures")]
simulated = functools.partial(_stores.simulated, text=TINY)
# Chunks of eight batches, so that each of eight devices has members of its own.
WIDE = {
    "tokens": TINY.replace("members = 320", "members = 2560").replace("chunk = 8", "chunk = 64"),
    # Checkpoints hold states with parts, position and momentum.
    "particles": PARTICLE.replace("members = 64", "members = 2560").replace(
        "chunk = 16", "chunk = 64"
    ),
}


@pytest.fixture(scope="module", params=WIDE)
def wide(tmp_path_factory, request):
    """A config with larger chunks, and its run."""
    text = WIDE[request.param]
    simulated(out := tmp_path_factory.mktemp("wide") / "run.zarr", text=text)
    return text, out


def start(out, text=TINY, devices=1, before=""):
    """The same run in a process of its own."""
    program = (
        f"{before}\nimport sys, pathlib\nfrom rich.console import Console\n"
        "from rqf_jax.runs import config, ensemble as runs\n"
        "runs.run(config.parse(sys.argv[2]), pathlib.Path(sys.argv[1]), force=False,"
        " console=Console(quiet=True))"
    )
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    return subprocess.Popen([sys.executable, "-c", program, str(out), text], env=environment)


def wait_for(process, condition):
    """Whether the condition came true before the process ended."""
    while process.poll() is None:
        if condition():
            return True
        time.sleep(0.002)
    return False


def written(out):
    """How many chunks the journal of an unfinished run names, -1 before there is one."""
    try:
        draft = _store.Draft.find(out)
        return -1 if draft is None else draft.written()
    except (FileNotFoundError, io.DataFileError):  # it was committed as we looked
        return -1


def killed(process, seconds=0.0):
    """Kill -9 after some seconds; whether the process still ran."""
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


def test_a_run_killed_on_one_and_on_eight_devices_ends_as_one_that_was_never_killed(wide, tmp_path):
    (text, expected), out, before = wide, tmp_path / "run.zarr", 0
    for devices in (1, 8, 4):
        process = start(out, text, devices)
        assert wait_for(process, lambda before=before: written(out) >= before + 5)
        assert killed(process)
        assert before + 5 <= written(out) < 40
        before = written(out)
    assert f"{before} of 40 chunks are there" in simulated(out, text=text)
    assert contents(out) == contents(expected)


def test_a_run_killed_at_twenty_random_moments_ends_as_one_that_was_never_killed(whole, tmp_path):
    rng, kills, out = random.Random(0), {"planned": 0, "computed": 0, "committed": 0}, None
    while sum(kills.values()) < 20:
        if out is None:
            out = tmp_path / f"run{sum(kills.values())}.zarr"
        store, before = _store.Draft.folder_of(out) / "store", max(0, written(out))
        moments = {
            "planned": lambda out=out: written(out) >= 0,
            "computed": lambda out=out, before=before: written(out) > before,
            "committed": lambda store=store: (store / "polar_order_mean").exists(),
        }
        # Few kills at the ends: what is computed in between is the longest part.
        moment = rng.choice(["planned", "computed", "computed", "committed"])
        process = start(out)
        if wait_for(process, moments[moment]):
            kills[moment] += killed(process, rng.uniform(0, 0.01 if moment != "computed" else 0.2))
        assert process.wait() in (0, -signal.SIGKILL)
        if out.exists() or moment == "committed":
            simulated(out)
            assert contents(out) == contents(whole)
            out = None
    assert min(kills.values()) >= 2, kills


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_the_number_of_devices_moves_no_bit(wide, tmp_path, devices):
    (text, expected), out = wide, tmp_path / "run.zarr"
    assert start(out, text, devices).wait() == 0
    assert contents(out) == contents(expected)


JOIN = "from rqf_jax.runs import hosts; hosts.join('127.0.0.1:{port},{count},{number}')"


def hosts(out, count, last="pass"):
    """`count` processes on the loopback, each a host of its own; a line for the last one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = [JOIN.format(port=port, count=count, number=number) for number in range(count)]
    return [start(out, before=line) for line in [*lines[:-1], f"{lines[-1]}; {last}"]]


LAPACK = """
import jax, jax.numpy as jnp, rqf_jax as rqf
from rqf_jax._ensemble.problem import Problem
from rqf_jax._ensemble.program import Program
sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(8, 3)
save = lambda x: {"r": %s}
problem = Problem(sde, law, jnp.linspace(0.0, 0.1, 3), jax.random.key(0), save, 1)
program = Program(problem, 4096, jax.local_devices())
for call in range(5):
    program(problem, call * program.members, program.members)
print(len(program.devices))
"""


@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("calls", [0, 1])
def test_devices_that_call_lapack_leave_a_thread_for_its_tasks(devices, calls):
    save = 'jnp.linalg.qr(x, mode="r")' if calls else "x[0]"
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", LAPACK % save],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    used = int(done.stdout)
    assert used < devices if calls else used == devices


@pytest.mark.parametrize("count", [2, 4])
def test_hosts_share_a_run_and_lose_one_of_them_without_a_trace(whole, tmp_path, count):
    out = tmp_path / "run.zarr"
    first = hosts(out, count)
    assert wait_for(first[-1], lambda: written(out) >= 4)
    for process in first:  # at once: one that loses the first would end by itself
        process.kill()
    assert [process.wait() for process in first] == [-signal.SIGKILL] * count
    assert 4 <= written(out) < 40
    assert [process.wait() for process in hosts(out, count)] == [0] * count
    assert contents(out) == contents(whole)
    # Beside the store only the folder of figures, which process 0 draws.
    assert {p.name for p in tmp_path.iterdir()} == {"run.zarr", "run"}


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_loses_the_other_ends_by_itself_and_the_run_goes_on(whole, tmp_path, lost):
    out = tmp_path / "run.zarr"
    both = hosts(out, 2)
    assert wait_for(both[lost], lambda: written(out) >= 4)
    assert killed(both[lost])
    assert both[1 - lost].wait(timeout=300) not in (0, -signal.SIGKILL)
    assert not out.exists() and written(out) < 40
    assert [process.wait() for process in hosts(out, 2)] == [0, 0]
    assert contents(out) == contents(whole)


LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_{name}, ({value}, {value}))"


def test_a_host_that_cannot_write_lets_the_others_do_their_shares_and_all_end(whole, tmp_path):
    out = tmp_path / "run.zarr"
    both = hosts(out, 2, last=LIMIT.format(name="FSIZE", value=64))
    assert all(process.wait(timeout=100) not in (0, -signal.SIGKILL) for process in both)
    assert not out.exists() and written(out) == 20
    assert [process.wait() for process in hosts(out, 2)] == [0, 0]
    assert contents(out) == contents(whole)


def command(config_path, out, before="pass"):
    """The command line in a process of its own, after the line `before`."""
    program = f"import sys; from rqf_jax.cli import main; {before}; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", program, "run", str(config_path), "--out", str(out)],
        env=os.environ | {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_process_on_the_same_run_is_exit_code_5(whole, tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    out = tmp_path / "run.zarr"
    first = start(out)
    assert wait_for(first, lambda: written(out) >= 1)
    os.kill(first.pid, signal.SIGSTOP)  # so that it is still there
    second = command(tmp_path / "tiny.toml", out)
    os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 5
    assert second.stderr == f"rqf-jax: {out}: another process is writing this run.\n"
    assert first.wait() == 0
    assert contents(out) == contents(whole)


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own, and what mounts it again."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        return subprocess.run(line, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=400k"):
        pytest.skip("needs the right to mount a small disk")
    yield folder, mount
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_became_read_only_is_exit_code_3(whole, tmp_path, disk):
    (tmp_path / "tiny.toml").write_text(TINY)
    folder, mount = disk
    assert mount("remount,ro")
    done = command(tmp_path / "tiny.toml", folder / "run.zarr")
    assert done.returncode == 3 and done.stderr.startswith("rqf-jax: Read-only file system (")
    assert list(folder.iterdir()) == []


def test_a_full_disk_loses_nothing_that_is_safe_and_says_so(whole, tmp_path, disk):
    (tmp_path / "tiny.toml").write_text(TINY)
    folder, mount = disk
    full = command(tmp_path / "tiny.toml", folder / "run.zarr")
    assert full.returncode == 3, full.stderr
    assert full.stderr.startswith("rqf-jax: No space left on device")
    assert "The same command continues" in full.stderr and "Traceback" not in full.stderr
    assert 0 < written(folder / "run.zarr") < 40
    assert mount("remount,size=40m")
    simulated(folder / "run.zarr")
    assert contents(folder / "run.zarr") == contents(whole)


def test_a_disk_that_cannot_be_written_is_exit_code_3(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    done = command(
        tmp_path / "tiny.toml", tmp_path / "run.zarr", LIMIT.format(name="FSIZE", value=100)
    )
    assert done.returncode == 3 and done.stderr.startswith("rqf-jax: File too large"), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.toml"]


def test_too_few_addresses_or_file_handles_are_one_message(tmp_path):
    (tmp_path / "tiny.toml").write_text(TINY)
    # Without the check XLA ends the process: a C++ abort, or a segmentation fault.
    line = [sys.executable, "-m", "rqf_jax", "run", "tiny.toml", "--out", "run.zarr"]

    def limited(limits):
        return subprocess.run(
            ["bash", "-c", f'ulimit {limits}; exec "$@"', "bash", *line],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = limited("-v 1600000")
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("rqf-jax: out of memory: the limit on addresses, ulimit -v, ")
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.toml"]
    done = limited("-n 9")
    assert done.returncode == 3 and "Traceback" not in done.stderr, done.stderr
    assert "Too many open files" in done.stderr and "ulimit -n" in done.stderr
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_too_little_memory_for_one_batch_is_exit_code_4(tmp_path):
    # One member is 288 MB, so that it fits; eight are more than what XLA's own addresses leave.
    text = TINY.replace('"polar_order", "overlaps"', '"state"').replace(
        "points = 3", "points = 300"
    )
    law = 'name = "uniform"\ntokens = 400\ndim = 300'
    text = text[: text.index("[law]")] + "[law]\n" + law + "\n"
    (tmp_path / "large.toml").write_text(text)
    before = (
        "import jax; jax.devices(); import pathlib; used = int(pathlib.Path('/proc/self/statm')"
    )
    before += ".read_text().split()[0]) * 4096; " + LIMIT.format(
        name="AS", value="used + 3 * 2**30"
    )
    done = command(tmp_path / "large.toml", tmp_path / "run.zarr", before)
    assert done.returncode == 4 and done.stderr.startswith("rqf-jax: out of memory: 8 members")
    assert "`run.save`" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["large.toml"]
