"""The equations of the papers, a few lines each.

Every model is a function from parameters to an `SDE`; its docstring names the paper's clock. Tokens
live on the sphere unless said otherwise; `normalised` turns such an equation into Pre-LN, Peri-LN
or nGPT.
"""

from .learned import neural_geometric, neural_langevin, neural_linear_noise
from .momentum import heavy_ball, nesterov, underdamped_langevin
from .normalised import in_log_time, normalised, normalised_layers
from .self_supervised import ema_flow, joint_flow, stop_gradient_flow
from .tokens import (
    forced_rqf,
    homogenised_attention,
    mamba_tokens,
    mean_field_attention,
    mlp_flow,
    noisy_attention,
    noisy_unnormalised_attention,
    oja,
    random_layers,
    random_linear_layers,
    random_quadratic_form,
    self_attention,
    stochastic_transformer,
)
from .weights import dyson, dyson_eigenvalues, ginibre, two_layer, weight_ou

__all__ = [
    "dyson",
    "dyson_eigenvalues",
    "ema_flow",
    "forced_rqf",
    "ginibre",
    "heavy_ball",
    "homogenised_attention",
    "in_log_time",
    "joint_flow",
    "mamba_tokens",
    "mean_field_attention",
    "mlp_flow",
    "nesterov",
    "neural_geometric",
    "neural_langevin",
    "neural_linear_noise",
    "noisy_attention",
    "noisy_unnormalised_attention",
    "normalised",
    "normalised_layers",
    "oja",
    "random_layers",
    "random_linear_layers",
    "random_quadratic_form",
    "self_attention",
    "stochastic_transformer",
    "stop_gradient_flow",
    "two_layer",
    "underdamped_langevin",
    "weight_ou",
]


def __dir__() -> list[str]:
    return __all__
