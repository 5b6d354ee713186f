"""Options by `--set method.n_components=20`: typed by the signature of the factory; the labels of a run say them."""

import inspect
import itertools
import json
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from cryosip.bench.app import outside
from cryosip.records.schema import OPTIONS, Labels, Options, RunConfig, merged

WHICH = ("method", "problem")
DISCREPANCY = ("discrepancy",)  # given by its name
NOT_SET = {"problem", "seed"}  # arguments of factories: the study gives the one, the replicate is the other


class Setting(NamedTuple):
    """An option of the method or of the problem, by its path, and the text of its value."""

    which: str
    path: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        """Such as "method.n_components"."""
        return ".".join((self.which, *self.path))


def parsed(text: str) -> Setting:
    """A setting of the form method.OPTION=VALUE or problem.OPTION=VALUE; an option may go on into a table."""
    name, equals, value = text.partition("=")
    which, *path = name.split(".")
    if not equals or which not in WHICH or not path or not all(path):
        raise ValueError(f"--set is {text!r}; wanted method.OPTION=VALUE or problem.OPTION=VALUE")
    return Setting(which, tuple(path), value)


def combinations(texts: Iterable[str]) -> list[list[Setting]]:
    """All settings together; of an option with several values each of them with all others."""
    by_name: dict[str, list[Setting]] = {}
    for setting in map(parsed, texts):
        by_name.setdefault(setting.name, []).append(setting)
    return [list(chosen) for chosen in itertools.product(*by_name.values())]


def with_settings(run: RunConfig, settings: Sequence[Setting]) -> RunConfig:
    """The run with these options; its variant says so, since it is no replicate of the run without them."""
    words: dict[str, list[str]] = {"method": [], "problem": []}
    for setting in settings:
        field = f"{setting.which}_options"
        factory = outside.REGISTRIES[setting.which].get(getattr(run, setting.which))
        if factory is None:  # a measure that is no method
            raise ValueError(f"--set {setting.name}: {run.study} has runs of no method; wanted other studies")
        value = _value(setting, f"{setting.which} {getattr(run, setting.which)!r}", factory)
        words[setting.which].append(
            f"{'.'.join(setting.path)}={value['name'] if setting.path == DISCREPANCY else setting.text}"
        )
        changes: Any = {field: _replaced(getattr(run, field), setting.path, value)}
        run = replace(run, **changes)
    return replace(run, labels=_labels(run.labels, ", ".join(words["method"]), words["problem"]))


def _labels(labels: Labels, of_method: str, of_problem: list[str]) -> Labels:
    """Options of the method name the run where its study varies nothing else; all others join the variant."""
    if of_method and not labels.axis:
        labels, of_method = msgspec.structs.replace(labels, axis=OPTIONS, value=of_method), ""
    return msgspec.structs.replace(labels, variant=", ".join(filter(None, [labels.variant, of_method, *of_problem])))


def defaults(factory: Callable[..., Any]) -> dict[str, str]:
    """The values of the arguments that a user can set, as `--set` takes them; "?" of one that has no default."""
    return {
        name: "?" if parameter.default is parameter.empty else json.dumps(parameter.default, default=str)
        for name, parameter in options_of(factory).items()
    }


def options_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments that a user can set."""
    parameters = inspect.signature(factory).parameters.values()
    return {p.name: p for p in parameters if p.name not in NOT_SET and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}


def _replaced(options: Options, path: tuple[str, ...], value: Any) -> Options:
    """A discrepancy that is named anew brings its own options."""
    if path == DISCREPANCY:
        return {**options, "discrepancy": value}
    for name in reversed(path):
        value = {name: value}
    return merged(options, value)


def _value(setting: Setting, what: str, factory: Callable[..., Any]) -> Any:
    options, (option, *inner) = options_of(factory), setting.path
    if option not in options:
        wanted = f"wanted one of {', '.join(map(repr, options))}" if options else "it has no options"
        raise ValueError(f"--set {setting.name}: {what} has no option {option!r}; {wanted}")
    plain, kind = _plain(setting.text), _kind(factory, options[option])
    if inner and kind in (int, float, bool, str):
        raise ValueError(f"--set {setting.name}: {option} of {what} is {kind.__name__}, and has no options of its own")
    if inner:
        return plain
    if setting.path == DISCREPANCY:
        return {"name": outside.find("discrepancy", setting.text)}
    try:
        value = msgspec.to_builtins(msgspec.convert(plain, kind, strict=False))
        json.dumps(value, allow_nan=False)  # a record holds finite numbers alone
        return value
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"--set {setting.name}={setting.text}: {option} of {what}: {error}") from error
    except TypeError:  # a type that no text is of, such as an array; the factory says what it wants
        return plain


def _plain(text: str) -> Any:
    """The value as JSON has it, or the text itself."""
    try:
        return msgspec.json.decode(text)  # no NaN and no infinity
    except ValueError:
        return None if text == "None" else text


def _kind(factory: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """The type of an argument: as annotated, or that of its default."""
    annotated = typing.get_type_hints(inspect.unwrap(factory)).get(parameter.name)
    if annotated is not None:
        return annotated
    known = parameter.default not in (None, parameter.empty)
    return type(parameter.default) if known else Any
