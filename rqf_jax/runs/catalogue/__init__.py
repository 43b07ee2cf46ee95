"""What a config may name: initial laws, and models with what is known of them in closed form.

A model is one section. To add one, write a final class with the members of `AbstractModel` and put
it into `Model`; the command line, the comparison and the figures follow. A section says which
closed forms it has, so that nothing is compared with the theory of another model.
"""

from typing import Annotated

from pydantic import Field

from ._section import (
    AbstractModel as AbstractModel,
    Floats as Floats,
    Section as Section,
    State as State,
)
from .laws import (
    AbstractLaw as AbstractLaw,
    EigenvaluesLaw as EigenvaluesLaw,
    EquiangularLaw as EquiangularLaw,
    HiddenStatesLaw as HiddenStatesLaw,
    Law as Law,
    PairLaw as PairLaw,
    Token as Token,
    UniformLaw as UniformLaw,
    ZerosLaw as ZerosLaw,
)
from .tokens import (
    ForcedRQF as ForcedRQF,
    MeanFieldAttention as MeanFieldAttention,
    MLPFlow as MLPFlow,
    NoisyAttention as NoisyAttention,
    NoisyUnnormalisedAttention as NoisyUnnormalisedAttention,
    OjaFlow as OjaFlow,
    RandomLayers as RandomLayers,
    RandomQuadraticForm as RandomQuadraticForm,
    SelfAttention as SelfAttention,
    StochasticTransformer as StochasticTransformer,
)
from .weights import Dyson as Dyson, DysonEigenvalues as DysonEigenvalues, WeightOU as WeightOU

Model = Annotated[
    RandomQuadraticForm
    | ForcedRQF
    | MLPFlow
    | NoisyAttention
    | NoisyUnnormalisedAttention
    | StochasticTransformer
    | RandomLayers
    | MeanFieldAttention
    | SelfAttention
    | OjaFlow
    | Dyson
    | DysonEigenvalues
    | WeightOU,
    Field(discriminator="name"),
]
