"""Policies: what they draw, how likely they say it is, and that they learn what the exact gradient says."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from sampler_spaces import Decisions, Mirrored, Staged

from oneshot.arch import Arch
from oneshot.policies import LSTMPolicy, MultinomialPolicy, PolicySettings, Reinforce, ReinforceSettings
from oneshot.spaces import OFAMobileNetV3
from oneshot.spaces.base import SearchSpace

SPACES = [Decisions(3, 4, 2), Staged(), Mirrored(3, 3)]
every_space = pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
SMALL = PolicySettings(hidden_size=8, num_layers=2, tanh_constant=2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def restless(space: SearchSpace, seed: int = 0) -> LSTMPolicy:
    """A policy far from uniform."""
    policy = LSTMPolicy(space, SMALL, seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.uniform_(-1.5, 1.5, generator=generator(seed + 1))
    return policy


def every_decision(space: SearchSpace) -> torch.Tensor:
    """The codes of every sequence of decisions, those of one network each on their own."""
    rows = set()
    for options in itertools.product(*(range(len(choice.options)) for choice in space.choices)):
        taken: dict[str, object] = {}
        row = []
        for choice, index in zip(space.choices, options, strict=True):
            active = choice.is_active(taken)
            row.append(index if active else -1)
            if active:
                taken[choice.name] = choice.options[index]
        rows.add(tuple(row))
    return torch.tensor(sorted(rows))


@every_space
def test_probabilities_of_all_decisions_sum_to_one(space: SearchSpace) -> None:
    policy = restless(space)
    assert policy(every_decision(space)).log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@every_space
def test_it_draws_as_often_as_it_says(space: SearchSpace) -> None:
    policy, codes, count = restless(space), every_decision(space), 20000
    drawn = policy.draw(count, generator())
    assert torch.equal(drawn.codes, policy.draw(count, generator()).codes)
    counts = Counter(map(tuple, drawn.codes.tolist()))
    for row, probability in zip(codes.tolist(), policy(codes).log_probs.exp().tolist(), strict=True):
        deviation = math.sqrt(count * probability * (1 - probability))
        assert abs(counts.pop(tuple(row), 0) - count * probability) < 5 * deviation + 1e-9
    assert not counts
    assert torch.allclose(policy(drawn.codes).log_probs, drawn.log_probs, atol=1e-5)


@every_space
def test_its_entropy_is_that_of_what_it_draws(space: SearchSpace) -> None:
    policy = restless(space)
    decisions = policy(every_decision(space))
    exact = -(decisions.log_probs.exp() * decisions.log_probs).sum().item()
    assert (decisions.log_probs.exp() * decisions.entropies).sum().item() == pytest.approx(exact, rel=1e-4)


@every_space
def test_drawn_architectures_are_valid_and_canonical(space: SearchSpace) -> None:
    policy = restless(space)
    codes = policy.draw(200, generator()).codes
    for row, arch in zip(codes.tolist(), policy.archs(codes), strict=True):
        space.validate(arch)
        taken = {
            choice.name: choice.options[index] for choice, index in zip(space.choices, row, strict=True) if index >= 0
        }
        assert space.arch(taken) == arch


def test_a_choice_that_is_not_active_changes_nothing() -> None:
    """What follows it is decided as if it were not there."""

    class Gap(Decisions):
        def __init__(self) -> None:
            staged = Staged().choices
            self.choices = (*staged, *Decisions(3).choices)

    policy = restless(Gap())
    probabilities = policy.named_probabilities(policy(torch.tensor([[0, 1, -1, -1, 2]])))
    assert all(math.isnan(value) for value in probabilities["block2"].values())
    assert sum(probabilities["choice0"].values()) == pytest.approx(1.0, abs=1e-6)
    # The LSTM has seen two decisions, as in a space that ends there.
    steps = []
    hook = policy.cells[0].register_forward_hook(lambda *given: steps.append(1))
    policy(torch.tensor([[0, 1, -1, -1, 2]]))
    hook.remove()
    assert len(steps) == 3


@pytest.mark.parametrize("entropy_weight", [0.0, 0.3])
@every_space
def test_the_gradient_is_that_of_the_expected_reward(space: SearchSpace, entropy_weight: float) -> None:
    """By enumeration: the estimate, weighted by how likely each sequence is drawn, against the derivative of the expectation."""
    policy, codes = restless(space), every_decision(space)
    rewards = torch.rand(len(codes), generator=generator(5))
    learning = Reinforce(policy, ReinforceSettings(entropy_weight=entropy_weight, target_weight=0.0))
    probabilities = policy(codes).log_probs.detach().exp()
    baseline = 0.4

    decisions = policy(codes)
    likely = decisions.log_probs.exp()
    objective = (likely * rewards).sum() - entropy_weight * (likely * decisions.log_probs).sum()
    exact = torch.autograd.grad(-objective, list(policy.parameters()))

    losses = torch.stack([learning.loss(codes[i : i + 1], rewards[i : i + 1] - baseline) for i in range(len(codes))])
    estimate = torch.autograd.grad((probabilities * losses).sum(), list(policy.parameters()))
    for one, two in zip(exact, estimate, strict=True):
        assert torch.allclose(one, two, atol=2e-5)
    assert max(part.abs().max().item() for part in exact) > 1e-2


def test_an_estimate_from_draws_comes_near_the_exact_gradient() -> None:
    space = Decisions(3, 4, 2)
    policy, codes = restless(space), every_decision(space)
    reward = {
        tuple(row): value
        for row, value in zip(codes.tolist(), torch.rand(24, generator=generator(5)).tolist(), strict=True)
    }
    learning = Reinforce(policy, ReinforceSettings(entropy_weight=0.0))
    expected = sum(policy(codes).log_probs.exp() * torch.tensor([reward[tuple(row)] for row in codes.tolist()]))
    exact = torch.cat([part.flatten() for part in torch.autograd.grad(-expected, list(policy.parameters()))])
    drawn = policy.draw(40000, generator(1)).codes
    rewards = torch.tensor([reward[tuple(row)] for row in drawn.tolist()])
    loss = learning.loss(drawn, rewards - rewards.mean())
    estimate = torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(policy.parameters()))])
    assert (estimate - exact).norm() < 0.1 * exact.norm()


def test_it_concentrates_on_a_known_optimum() -> None:
    space = Decisions(4, 4, 4, 4, 4)
    best = torch.tensor([2, 0, 3, 1, 2])
    policy = LSTMPolicy(space, PolicySettings(hidden_size=32, tanh_constant=2.5), seed=0)
    learning = Reinforce(policy, ReinforceSettings(lr=0.02))
    noise = random.Random(0)
    entropy = [policy.draw(100, generator(9)).entropies.mean().item()]
    for step in range(300):
        codes = policy.draw(10, generator(step)).codes
        learning.step(codes, [float(hits) / 5 + noise.gauss(0, 0.05) for hits in (codes == best).sum(1)])
    drawn = policy.draw(500, generator(10))
    entropy.append(drawn.entropies.mean().item())
    assert entropy[0] == pytest.approx(5 * math.log(4), rel=0.02)
    assert entropy[1] < 0.5 * entropy[0]
    ((most, times),) = Counter(map(tuple, drawn.codes.tolist())).most_common(1)
    assert most == tuple(best.tolist())
    assert times > 150
    assert learning.baseline is not None
    assert learning.baseline > 0.75


def test_targets_hold_the_part_of_open_choices() -> None:
    space = Decisions(*[2] * 8)
    settings = PolicySettings(hidden_size=16, tanh_constant=None, choices={"choice*": {"target": {1: 0.2}}})
    policy = LSTMPolicy(space, settings)
    learning = Reinforce(policy, ReinforceSettings(lr=0.02, target_weight=0.8))
    before = policy.draw(500, generator()).divergence.item()
    p, q = 0.5, 0.2
    assert before == pytest.approx(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), abs=0.02)
    for step in range(150):
        learning.step(policy.draw(10, generator(step)).codes, [0.5] * 10)
    assert policy.draw(500, generator()).codes.float().mean().item() == pytest.approx(0.2, abs=0.05)


def test_what_is_special_about_choices() -> None:
    """With no weights the logits are those of the biases: tanh_constant * tanh(initial) + fixed."""
    special = {"choice1": {"tanh_constant": 0.44, "initial_bias": {2: 10.0}, "fixed_bias": {2: 0.25, 0: -0.25}}}
    policy = LSTMPolicy(Decisions(3, 3), PolicySettings(tanh_constant=1.1, choices=special))
    with torch.no_grad():
        policy.weight.zero_()
    found = policy.named_probabilities(policy.draw(5, generator()))
    assert found["choice0"] == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})
    logits = [-0.25, 0.0, 0.44 * math.tanh(10.0) + 0.25]
    total = sum(map(math.exp, logits))
    assert list(found["choice1"].values()) == pytest.approx([math.exp(logit) / total for logit in logits])


def test_the_temperature_flattens() -> None:
    space = Decisions(4)
    cold, warm = (LSTMPolicy(space, PolicySettings(tanh_constant=None, temperature=value)) for value in (1.0, 5.0))
    for policy in (cold, warm):
        with torch.no_grad():
            policy.bias.copy_(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert warm.draw(1, generator()).entropies.item() > cold.draw(1, generator()).entropies.item() + 0.2


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"choise*": {"tanh_constant": 1.0}}, "'choise*' matches no choice"),
        ({"choice0": {"tanh_constants": 1.0}}, "has no setting 'tanh_constants'; did you mean 'tanh_constant'?"),
        ({"choice0": {"initial_bias": {7: 1.0}}}, "'choice0' cannot be 7; its options are"),
        ({"choice0": {"target": {0: 1.2}}}, "is no distribution"),
        ({"choice0": {"target": {0: 0.0}}}, "is no distribution"),
    ],
)
def test_wrong_settings_are_refused(choices: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(ValueError, match=f".*{message.replace('*', '[*]').replace('?', '[?]')}"):
        LSTMPolicy(Decisions(3, 3), PolicySettings(choices=choices))


@pytest.mark.parametrize("name", ["hidden_size", "num_layers", "temperature", "tanh_constant"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^policy\.{name} (is|must be) "):
        PolicySettings(**{name: 0})


def test_a_large_space_is_drawn_in_one_go() -> None:
    space = OFAMobileNetV3(num_classes=10, resolutions=(24, 32))
    policy = LSTMPolicy(space, SMALL)
    decisions = policy.draw(300, generator())
    archs = policy.archs(decisions.codes)
    assert len(set(archs)) == 300
    again = policy(torch.from_numpy(policy.coding.encode(archs).astype(np.int64)))
    assert torch.allclose(again.log_probs, decisions.log_probs, atol=1e-4)


# MdeNAS --------------------------------------------------------------------------------------------------------------


def test_probability_moves_from_what_was_tried_more_to_what_did_better() -> None:
    space = Decisions(3)
    policy = MultinomialPolicy(space, lr=0.1)
    policy.update(Arch({"choice0": 0}), 0.5)  # tried more and better than the others: nothing is known of those
    assert policy.probabilities["choice0"] == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})
    policy.update(Arch({"choice0": 1}), 0.6)  # tried as often, and better than 0
    assert policy.probabilities["choice0"] == pytest.approx({0: 1 / 3 - 0.1, 1: 1 / 3 + 0.1, 2: 1 / 3})
    policy.update(Arch({"choice0": 1}), 0.4)  # tried more, and worse than 0
    assert policy.probabilities["choice0"] == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})


def test_no_probability_falls_below_zero() -> None:
    policy = MultinomialPolicy(Decisions(2), lr=0.4)
    for _ in range(3):
        policy.update(Arch({"choice0": 0}), 0.1)
        policy.update(Arch({"choice0": 1}), 0.9)
    assert policy.probabilities["choice0"] == pytest.approx({0: 0.0, 1: 1.0})
    assert policy.entropy() == pytest.approx(0.0)
    assert {policy.draw(random.Random(seed))["choice0"] for seed in range(20)} == {1}


def test_mdenas_finds_the_best_option_of_one_choice() -> None:
    for seed in range(5):
        policy, rng = MultinomialPolicy(Decisions(4), lr=0.01), random.Random(seed)
        for _ in range(600):
            arch = policy.draw(rng)
            policy.update(arch, [0.5, 0.2, 0.9, 0.4][arch.integer("choice0")])
        values = policy.probabilities["choice0"]
        assert max(values, key=values.__getitem__) == 2
        assert values[2] > 0.35


def test_the_learning_rate_of_mdenas_is_a_part() -> None:
    for lr in (0.0, 1.5):
        with pytest.raises(ValueError, match="lr lies above 0"):
            MultinomialPolicy(Decisions(2), lr)
