"""Objects from configs: what a config names is looked up in a table, so that one from a file cannot run anything else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from oneshot import data, policies, predictors, samplers, search
from oneshot.arch import suggest
from oneshot.config.keys import no_setting
from oneshot.reading import short
from oneshot.spaces.loading import is_plain

_MAX_DEPTH = 8


@dataclass(frozen=True)
class Kind:
    """What can be made for one part of the config.

    Args:
        made: the allowed names and what they stand for.
        parts: the names that are allowed further inside.
    """

    made: Mapping[str, Callable[..., Any]]
    parts: Mapping[str, Callable[..., Any]]


def _public(package: Any, wanted: Callable[[Any], bool]) -> dict[str, Callable[..., Any]]:
    return {
        f"{package.__name__}.{name}": vars(package)[name] for name in package.__all__ if wanted(vars(package)[name])
    }


def _is_source(found: Any) -> bool:
    return inspect.isfunction(found) and found.__module__.startswith("oneshot.data.source_")


def _is_sampler(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, samplers.Sampler) and not inspect.isabstract(found)


def _is_strategy(found: Any) -> bool:
    return inspect.isclass(found) and is_dataclass(found) and callable(vars(found).get("search"))


def _is_regression(found: Any) -> bool:
    return (
        inspect.isclass(found)
        and found not in (predictors.Predictor, predictors.PublishedPredictor)
        and callable(vars(found).get("predict"))
    )


_POLICY = _public(policies, lambda found: found in (policies.PolicySettings, policies.ReinforceSettings))
_RELAXED = _public(
    samplers, lambda found: inspect.isclass(found) and is_dataclass(found) and found is not samplers.Moment
)
_PUBLISHED = {"oneshot.predictors.PublishedPredictor.load": predictors.PublishedPredictor.load}

DATA = Kind(_public(data, _is_source), _public(data, lambda found: found is data.Augmentation))
SAMPLERS = Kind(_public(samplers, _is_sampler), _POLICY | _RELAXED)
STRATEGIES = Kind(_public(search, _is_strategy), _POLICY)
PREDICTORS = Kind(_public(predictors, _is_regression) | _PUBLISHED, {})


def build(config: object, kind: Kind, where: str, **given: Any) -> Any:
    """The object that ``config`` describes, with those inside it: ``_target_`` names it, everything else is an argument.

    Args:
        where: the config's place, for messages, such as ``"data"``.
        given: further arguments, which no config can set.

    Raises:
        ValueError: ``config`` names anything that is not in the tables of ``kind``, arguments that there are not, or values
            other than plain ones.
    """
    return _build(config, kind.made, kind.parts, where, given, 0)


def _build(
    config: object,
    allowed: Mapping[str, Callable[..., Any]],
    parts: Mapping[str, Callable[..., Any]],
    where: str,
    given: Mapping[str, Any],
    depth: int,
) -> Any:
    if not isinstance(config, Mapping):
        raise ValueError(f"{where} holds settings by name, not {short(config)}")
    target = config.get("_target_")
    if not isinstance(target, str) or target not in allowed:
        near = suggest(target[:99], list(allowed)) if isinstance(target, str) else ""
        raise ValueError(f"{where}._target_ is one of {', '.join(allowed) or 'none'}, not {short(target)}{near}")
    made = allowed[target]
    arguments = {
        name: _value(value, parts, where, name, depth + 1) for name, value in config.items() if name != "_target_"
    }
    parameters = inspect.signature(made).parameters
    named = [name for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    known, takes_more = [name for name in named if name not in given], len(named) < len(parameters)
    for name in arguments:
        if name not in known and (name in given or not takes_more):
            raise ValueError(no_setting(f"{where}.{name}", [f"{where}.{one}" for one in known]))
    try:
        return made(**arguments, **given)
    except (TypeError, AttributeError, ArithmeticError, LookupError) as error:  # values of a wrong type
        for name, value in arguments.items():
            if name in parameters and isinstance(value, str) and _is_number(parameters[name]):
                raise ValueError(f"{where}.{name} is a number, not {short(value)}") from error
        raise ValueError(f"{where}: {error}") from error
    except ValueError as error:
        if not depth:  # what is made there names its settings itself
            raise
        raise ValueError(_placed(str(error), where, known)) from error


def _is_number(parameter: inspect.Parameter) -> bool:
    return str(parameter.annotation).partition(" | ")[0] in ("int", "float")


def _placed(message: str, where: str, settings: Sequence[str]) -> str:
    """What is wrong with a part of the config, with the place of the part."""
    part = where.rpartition(".")[2]
    if where in message:
        return message
    if message.startswith(f"{part}."):
        return where.removesuffix(part) + message
    return f"{where}.{message}" if message.partition(" ")[0] in settings else f"{where}: {message}"


def _value(value: object, parts: Mapping[str, Callable[..., Any]], where: str, name: object, depth: int) -> Any:
    """``value`` with the objects that it describes made, and lists for sequences."""
    place = f"{where}.{str(name)[:99]}"
    if not isinstance(name, (str, bool, int, float)) or (isinstance(name, str) and name.startswith("_")):
        raise ValueError(f"there is no setting {place!r}")
    if depth > _MAX_DEPTH:
        raise ValueError(f"{place[:200]} is nested too deep")
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _build(value, parts, parts, place, {}, depth)
        return {key: _value(one, parts, place, key, depth + 1) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_value(one, parts, place, index, depth + 1) for index, one in enumerate(value)]
    if not is_plain(value):
        raise ValueError(f"{place} cannot be {short(value)}: it is no plain value")
    return value
