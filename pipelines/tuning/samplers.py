"""Samplers, which draw a study's trials, and pruners, which end those that lag behind."""

import warnings

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from pipelines.tuning.params import TuningParams

# Complete trials before the median says anything. Of two it is their mean, below which half of all trials are: that
# ended CrossKD's best trial of the default study.
_MEDIAN_STARTUP = 3


_NUMPY_SEEDS = 2**32


def _seed(seed: int, index: int) -> int:
    """Seed of a trial's draws, of the 32 bits that NumPy takes; a product where it fits, as it does for small seeds."""
    if (product := seed * 100_003 + index) < _NUMPY_SEEDS:
        return product
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])


def sampler_for(tuning: TuningParams, index: int) -> BaseSampler:
    """Return the sampler that draws the trial before which ``index`` others were assigned."""
    seed = _seed(tuning.seed, index)
    if tuning.sampler == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(n_startup_trials=tuning.startup_trials, multivariate=True, constant_liar=True, seed=seed)


def pruner_for(tuning: TuningParams) -> BasePruner:
    """Return the pruner; a trial's steps are its reports, counted from 1."""
    if tuning.pruner == "median":
        return MedianPruner(n_startup_trials=_MEDIAN_STARTUP)
    if tuning.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=tuning.reports, reduction_factor=2)
    return NopPruner()
