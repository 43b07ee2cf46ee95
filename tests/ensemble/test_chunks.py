"""What a run does with members once they are computed, and in what portions noise is made."""

import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax._ensemble import interval, program as _program
from rqf_jax.runs import summaries


def test_members_that_fail_end_a_run_by_name_or_are_left_out_of_its_summaries():
    rng = np.random.default_rng(0)
    ys, status = {"polar_order": rng.random((4, 3))}, np.array([0, 2, 0, 1])
    with pytest.raises(rqf.NonFiniteError, match=r"2 of 4 .*: 101, 103 \(the first between sav"):
        summaries.digest(ys, status, 100, "stop")
    total = summaries.digest(ys, status, 100, "mark")["polar_order"]
    kept = ys["polar_order"][[0, 2]]
    np.testing.assert_array_equal(total.count, 2)
    np.testing.assert_allclose(total.mean, kept.mean(0))
    np.testing.assert_allclose(total.variance, kept.var(0, ddof=1))


@pytest.mark.parametrize("substeps", [1, 2, 12, 13, 30, 97])
@pytest.mark.parametrize("members", [1, 2**12, 2**17])
def test_noise_is_made_in_blocks_that_fit_the_cache_and_leave_no_rest_if_they_can(
    substeps, members
):
    count = interval.block_steps(substeps, (10, 1), members, np.dtype("float32"))
    most = interval.CACHE_BYTES // (4 * 10 * members)
    assert 1 <= count <= min(substeps, 16) and count <= max(2, most)
    most = min(substeps, 16, max(2, most))
    if any(substeps % d == 0 for d in range(most, most // 2, -1)):
        assert substeps % count == 0 and count > most // 2
    else:
        assert count == most


def test_free_memory_is_what_the_tightest_limit_around_the_process_leaves(tmp_path, monkeypatch):
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    monkeypatch.setattr(_program, "_PROC", proc)
    monkeypatch.setattr(_program, "_CONTROL_GROUP", groups)
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("1:name=systemd:/other\n0::/batch/job7\n")
    own = groups / "batch" / "job7"
    own.mkdir(parents=True)
    assert _program._control_group() == _program._UNLIMITED

    def limit(folder, most, used, cache):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon {used - cache}\ninactive_file {cache}\n")

    limit(own, 1000, 900, 600)
    assert _program._control_group() == 700
    limit(groups / "batch", 2000, 1800, 100)
    assert _program._control_group() == 300
    limit(groups, "max", 10**9, 0)
    assert _program._control_group() == 300
