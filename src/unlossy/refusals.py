"""What Hydra refuses about a command line, in one sentence with the nearest thing that exists.

Hydra prints a paragraph and ends the process itself, except where HYDRA_FULL_ERROR=1 has it raise.
That is set while a configuration is composed, and taken back when it is.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlossy import choices
from unlossy.errors import UserError

WHOLE = "HYDRA_FULL_ERROR"
# Arguments that Hydra takes beside overrides.
FLAGS = (
    "--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun",
    "--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun",
    "--info",
)  # fmt: skip
# The extra that brings hydra_plugins.hydra_*_launcher.
EXTRAS = {"joblib": "joblib", "submitit": "slurm", "ray": "ray"}


@contextmanager
def told(conf: Path, door: str, arguments: Sequence[str]) -> Iterator[Callable[[], None]]:
    """Turn what Hydra raises into a UserError until the function that is yielded was called.

    Args:
        conf: the folder of configurations.
        door: `train` or `eval`.
        arguments: the command line.

    Raises:
        UserError: the arguments do not compose.
    """
    if os.environ.get(WHOLE):
        yield lambda: None
        return
    os.environ[WHOLE] = "1"

    def composed() -> None:
        os.environ.pop(WHOLE, None)

    try:
        check(conf, door, arguments)
        yield composed
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if WHOLE not in os.environ or isinstance(error, UserError):
            raise
        raise UserError(sentence(error, conf, door, arguments)) from error
    finally:
        composed()


def check(conf: Path, door: str, arguments: Sequence[str]) -> None:
    """Refuse what Hydra takes for something else, or ends in a traceback about.

    Arguments are those of `told`.

    Raises:
        UserError: naming the first such argument.
    """
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key.startswith("--") and not any(flag.startswith(key) for flag in FLAGS):
            raise UserError(f"{argument} is unknown; settings are written KEY=VALUE, without --.")
        if key == "" and equals:
            raise UserError(f"{argument} names no key; write KEY=VALUE without spaces around =.")
        if key.startswith("~") and key[1:] in _needed(conf, door):
            raise UserError(f"{argument} takes away what every run needs; give it another value.")
        if not equals or key.startswith("~"):
            continue
        if choices.group_of(conf, key) is None:
            if value == "":
                raise UserError(f"{argument} sets nothing; write a value, or {key}=null for none.")
            continue
        if value in ("", "null"):
            spare = "@" in key or key == "schedule"
            instead = f"write ~{key} to go without" if spare else f"{key}=help lists the choices"
            raise UserError(f"{argument} chooses nothing; {instead}.")
        if value.endswith((".yaml", ".yml")):
            raise UserError(f"{argument} names a file; write {key}={Path(value).stem}.")
        if value.startswith("[") and key != "experiment":
            raise UserError(
                f"{argument} chooses several, and {key} is one; compare them with -m "
                f"{key}={value.strip('[]')}."
            )


def _needed(conf: Path, door: str) -> set[str]:
    """Return the groups and settings that are not for taking away."""
    groups, settings = choices.introduced(conf, door)
    return {line.key for line in (*groups, *settings) if line.value != "null"} - {"schedule"}


def sentence(error: Exception, conf: Path, door: str, arguments: Sequence[str]) -> str:
    """Return what Hydra means, and what to write instead; arguments as for `told`."""
    if isinstance(error, MissingConfigException):
        return _unknown_choice(conf, error.missing_cfg_file or "", error.options or ())
    if isinstance(error, OverrideParseException):
        return _unreadable(conf, error.override)
    text = f"{error or error.__cause__}".strip()
    if found := re.search(r"hydra_plugins\.hydra_(\w+)_launcher", text):
        extra = EXTRAS.get(found[1], found[1])
        return f"That launcher is not installed; pip install 'unlossy[{extra}]' brings it."
    if "override must be a string" in text:  # trainer=5
        for argument in arguments:
            key, _, value = argument.partition("=")
            if (of := choices.group_of(conf, key)) and value not in choices.choices(conf, of[0]):
                return _unknown_choice(conf, f"{of[0]}/{value}", ())
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+)'", text):
        key, _, value = found[1].partition("=")
        as_list = "" if key in choices.groups(conf) else f", or write {key}=[{value}] for a list"
        return f"{found[1]} names several values; add -m to run a job for each{as_list}."
    if found := re.search(r"Could not append .*?'([^'=]+)|^(\S+) appears more than once", text):
        return f"{found[1] or found[2]} is there already; set it without the +."
    if found := re.search(r"Could not (?:override|delete)[^']*'([^'=]+)", text):
        key = getattr(error.__cause__, "full_key", "") or ""
        return _unknown_key(conf, door, arguments, found[1], key)
    return f"The command line does not work: {text.splitlines()[0].rstrip('.')}."


def _unknown_choice(conf: Path, missing: str, options: Sequence[str]) -> str:
    """Say what else a group takes; `missing` is GROUP/NAME, where the group may be nested."""
    group, name = choices.group_of(conf, missing) or missing.rpartition("/")[::2]
    known = choices.choices(conf, group)
    if group.startswith("hydra/"):
        known = list(options) or known
    typed = f"{group}={name}"
    if held := [choice for choice in known if choice.startswith(f"{name}/")]:
        return f"{typed} is a folder; choose of what it holds: {', '.join(held)}."
    if group == "hydra/launcher" and (extra := EXTRAS.get(name.partition("_")[0])):
        return f"{typed} is not installed; pip install 'unlossy[{extra}]' brings it."
    near = difflib.get_close_matches(name.lower(), known, 1)
    near += [f"{g}={name}" for g in choices.groups(conf) if name in choices.choices(conf, g)]
    meant = f"; did you mean {near[-1]}?" if near else "."
    return f"{typed} is unknown{meant} Choices: {', '.join(known) or 'none'}."


def _unreadable(conf: Path, argument: str) -> str:
    """Say how to write what is no override in Hydra's grammar."""
    key, equals, value = argument.partition("=")
    if not equals:
        where = [g for g in choices.groups(conf) if argument in choices.choices(conf, g)]
        if argument.endswith(".ckpt"):
            where = ["ckpt"]
        instead = f"; did you mean {where[0]}={argument}?" if where else " around =."
        return f"{argument} sets nothing; write KEY=VALUE without spaces{instead}"
    if any(value.count(one) != value.count(other) for one, other in ("()", "[]", "{}")):
        return f"{argument} has a bracket without its partner."
    quoted = shlex.quote(f'{key}="{value}"')
    return f"{argument} cannot be read; quote such a value twice: {quoted}."


def _unknown_key(conf: Path, door: str, arguments: Sequence[str], key: str, missing: str) -> str:
    """Name the nearest key that there is; `missing` is as far as Hydra got."""
    if key.startswith("hydra."):
        return f"{key} is no key of Hydra's; --cfg hydra prints them."
    known = _known(conf, door, arguments)
    key = missing if key in known else key
    if key in choices.groups(conf):
        return f"{key} is no group of {door}; {door} --help lists them."
    if key in known:
        return f"{key} is taken away by another argument."
    if near := _nearest(key, known):
        return f"{key} is unknown to {door}; did you mean {near}?"
    if "@" in key:
        return f"{key} is not among the defaults; add it with +{key}=NAME."
    within = key.rpartition(".")[0]
    siblings = [k.removeprefix(f"{within}.") for k in known if k.startswith(f"{within}.")]
    if own := [name for name in siblings if "." not in name and name[0] != "_"]:
        return f"{key} is unknown; {within} has {', '.join(own)}, and +{key}=VALUE adds one."
    return f"{key} is unknown to {door}; --cfg job prints all keys, and +{key}=VALUE adds one."


def _known(conf: Path, door: str, arguments: Sequence[str]) -> list[str]:
    """Return all keys of the configuration with the groups that the command line chooses."""
    own = {group.key for group in choices.introduced(conf, door)[0]}
    chosen = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in own and value in choices.choices(conf, key):
            chosen.append(argument)
    with hydra.initialize_config_dir(str(conf), version_base="1.3"):
        cfg = OmegaConf.to_container(hydra.compose(door, chosen))
    placed = re.findall(r"^  - (\w+@[\w.]+):", (conf / f"{door}.yaml").read_text(), re.MULTILINE)
    return [*_keys(cfg), *own, *placed]


def _keys(node: object, prefix: str = "") -> Iterator[str]:
    for name, inner in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from _keys(inner, f"{prefix}{name}.")


def _nearest(key: str, known: Sequence[str]) -> str | None:
    """Return the key that has this name further in, else the most similar one."""
    if "@" in key:
        known = [k for k in known if "@" in k]
        near = difflib.get_close_matches(key, known, 1, cutoff=0.9)
        return near[0] if near else None
    inner = [k for k in known if k.endswith(f".{key}")]
    if inner:
        return min(inner, key=lambda k: k.count("."))
    folder, _, name = key.rpartition(".")
    if folder in known:
        candidates = [k for k in known if k.rpartition(".")[0] == folder]
    elif near := difflib.get_close_matches(key, known, 1, cutoff=0.8):
        return near[0]
    else:
        candidates = [k for k in known if k.count(".") <= 1]
    named = {k.rpartition(".")[2]: k for k in candidates}
    near = difflib.get_close_matches(name, named, 1, cutoff=0.65)
    return named[near[0]] if near else None
