"""The kinds of state that the models of this package move."""

from ... import observables
from ._section import State


def _whole(x):
    return x


def _position(x):
    return x["q"]


def _momentum(x):
    return x["p"]


def _position_squared(x):
    return x["q"] ** 2


def _momentum_squared(x):
    return x["p"] ** 2


def _squared(x):
    return x**2


def _squared_radii(x):
    return observables.radii(x) ** 2


TOKENS = State(
    "tokens",
    {
        "state": _whole,
        "overlaps": observables.overlaps,
        "angles": observables.angles,
        "gram": observables.gram,
        "polar_order": observables.polar_order,
        "nematic_order": observables.nematic_order,
        "log_det_gram": observables.log_det_gram,
        "cluster_signs": observables.cluster_signs,
        "cosines": observables.cosines,
        "radii": observables.radii,
        "squared_radii": _squared_radii,
        "log_radius_ratio": observables.log_radius_ratio,
    },
    example=("overlaps", "log_det_gram"),
    has_tokens=True,
)
SQUARE = State("square matrices", {"spectrum": observables.spectrum}, example=("spectrum",))
RECTANGULAR = State(
    "matrices", {"singular_values": observables.singular_values}, example=("singular_values",)
)
EIGENVALUES = State("eigenvalues", {"spectrum": _whole}, example=("spectrum",))
PARTICLES = State(
    "particles",
    {
        "q": _position,
        "p": _momentum,
        "q_squared": _position_squared,
        "p_squared": _momentum_squared,
    },
    example=("q_squared", "p_squared"),
)
NUMBERS = State("numbers", {"x": _whole, "x_squared": _squared}, example=("x", "x_squared"))
