"""The study file as validated, frozen models; overrides; search spaces; the pieces in ``configs/``."""

from stainda.config.engine import ClusterConfig, EngineConfig
from stainda.config.fine_tuning import CacheConfig, TrainConfig
from stainda.config.initialisation import InitConfig
from stainda.config.load import available, load_piece, load_strategy, load_study, read_yaml
from stainda.config.models import EvaluationConfig, PartConfig, StrategyConfig, StudyConfig, TaskConfig
from stainda.config.other_runs import StartConfig, WeightsPart
from stainda.config.preparation import FusionConfig, FusionMethod, PhantomConfig, PropagationConfig, RegistrationConfig
from stainda.config.pretraining import PretrainingConfig
from stainda.config.protocol import ProtocolConfig, SearchConfig
from stainda.config.space import SearchRange
from stainda.config.training import GeometryConfig, ModelConfig, PatchConfig, RecipeConfig, TrainingConfig

__all__ = [
    "ClusterConfig",
    "EngineConfig",
    "CacheConfig",
    "EvaluationConfig",
    "FusionConfig",
    "FusionMethod",
    "GeometryConfig",
    "InitConfig",
    "ModelConfig",
    "WeightsPart",
    "PartConfig",
    "PatchConfig",
    "PhantomConfig",
    "PretrainingConfig",
    "PropagationConfig",
    "ProtocolConfig",
    "RecipeConfig",
    "RegistrationConfig",
    "SearchConfig",
    "SearchRange",
    "StartConfig",
    "StrategyConfig",
    "StudyConfig",
    "TaskConfig",
    "TrainConfig",
    "TrainingConfig",
    "available",
    "load_piece",
    "load_strategy",
    "load_study",
    "read_yaml",
]
