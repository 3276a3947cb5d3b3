"""Policies: distributions over the architectures of any search space that learn from rewards."""

from oneshot.policies.lstm import ChoicePolicy, Decisions, LSTMPolicy, PolicySettings
from oneshot.policies.multinomial import MultinomialPolicy
from oneshot.policies.reinforce import Reinforce, ReinforceSettings

__all__ = [
    "ChoicePolicy",
    "Decisions",
    "LSTMPolicy",
    "MultinomialPolicy",
    "PolicySettings",
    "Reinforce",
    "ReinforceSettings",
]
