"""Runs on disk that the tests of one module share."""

import pytest

from rqf_jax.runs import ensemble, look


@pytest.fixture
def no_figures(monkeypatch):
    """Runs that draw nothing: figures have tests of their own."""
    monkeypatch.setattr(look, "draw", lambda *_: None)


@pytest.fixture
def no_look(monkeypatch):
    """Runs that end with their store: no comparison, and no figures."""
    monkeypatch.setattr(ensemble, "look", lambda *_, **__: None)


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """What the module's `simulated` writes if nothing interrupts it; not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "run.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "draw", lambda *_: None)
        request.module.simulated(out)
    return out
