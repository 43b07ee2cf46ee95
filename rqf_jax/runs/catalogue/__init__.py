"""The sections of a config: laws, models, training processes, architectures, and general ones.

A model is one section. To add one, write a final class with the members of `AbstractModel`; the
command line, the comparison and the figures follow. A section names its own closed forms, so that
nothing is compared with the theory of another model. Another package does the same, and names its
module as an entry point of the group `rqf_jax.sections`.
"""

from ._section import (
    AbstractLaw as AbstractLaw,
    AbstractModel as AbstractModel,
    AbstractNamed as AbstractNamed,
    AbstractProcess as AbstractProcess,
    AbstractSeeded as AbstractSeeded,
    ConfigError as ConfigError,
    Fact as Fact,
    Floats as Floats,
    Law as Law,
    Learning as Learning,
    Model as Model,
    Process as Process,
    Section as Section,
    Start as Start,
    State as State,
    example as example,
    find as find,
    listed as listed,
    load_others as load_others,
    names as names,
    nearest as nearest,
    unknown as unknown,
)
from .architectures import (
    BERT as BERT,
    GPT2 as GPT2,
    AbstractArchitecture as AbstractArchitecture,
    Architecture as Architecture,
    Gemma2 as Gemma2,
    Llama as Llama,
    NeoX as NeoX,
    Pythia as Pythia,
    of_file as of_file,
)
from .closed_forms import ClosedForms as ClosedForms, Statistic as Statistic
from .general import (
    Companion as Companion,
    Ensemble as Ensemble,
    Report as Report,
    Run as Run,
    Seeds as Seeds,
    Sweep as Sweep,
    Times as Times,
    Updates as Updates,
)
from .laws import (
    EigenvaluesLaw as EigenvaluesLaw,
    EquiangularLaw as EquiangularLaw,
    HiddenStatesLaw as HiddenStatesLaw,
    NormalLaw as NormalLaw,
    PairLaw as PairLaw,
    RestLaw as RestLaw,
    UniformLaw as UniformLaw,
    ZerosLaw as ZerosLaw,
)
from .momentum import (
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
    UnderdampedLangevin as UnderdampedLangevin,
)
from .normalised import NormalisedLayers as NormalisedLayers
from .processes import Classifier as Classifier, LinearRegression as LinearRegression
from .states import (
    EIGENVALUES as EIGENVALUES,
    NUMBERS as NUMBERS,
    PARTICLES as PARTICLES,
    RECTANGULAR as RECTANGULAR,
    SQUARE as SQUARE,
    TOKENS as TOKENS,
)
from .systems import (
    DoubleWell as DoubleWell,
    KuramotoSivashinsky as KuramotoSivashinsky,
    Lorenz63 as Lorenz63,
    Lorenz96 as Lorenz96,
    Rossler as Rossler,
    Thomas as Thomas,
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
