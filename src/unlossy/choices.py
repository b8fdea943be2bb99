"""What there is to choose on a command line: `--help` and `model=help`, read off `conf/`.

    conf/train.yaml      defaults:  - model: ccdnet  # what restores them      a group, its default
                         seed: 0  # of everything that is drawn                a setting
    conf/model/x.yaml    # One comment says what it is.                        a choice
    conf/model/a/x.yaml  the choice a/x;  _x.yaml is a part of others and none

Hydra's own help prints the whole configuration; here nothing is composed, so it costs no import.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ASKING = ("?", "help")  # of which some shells take the first for a wildcard
WIDTH = 96  # characters


@dataclass(frozen=True)
class Line:
    """A group or a setting as the configuration introduces it."""

    key: str
    value: str
    comment: str


def groups(conf: Path) -> list[str]:
    """Return the folders of `conf` that hold choices: `model`, `hydra/launcher`."""
    folders = [p for p in (*conf.iterdir(), *conf.glob("hydra/*")) if p.is_dir()]
    names = {p.relative_to(conf).as_posix() for p in folders}
    return sorted(names - {"hydra", "local"})


def group_of(conf: Path, key: str) -> tuple[str, str] | None:
    """Return the group that a key chooses in and the folder within it: ("experiment", "film").

    Args:
        conf: the folder of configurations.
        key: left of the equals sign: `model`, `+model@baselines.x`, `experiment/film`.
    """
    path = key.lstrip("+~").partition("@")[0]
    for group in groups(conf):
        if f"{path}/".startswith(f"{group}/"):
            return group, path[len(group) + 1 :]
    return None


def choices(conf: Path, group: str) -> list[str]:
    """Return what `group=...` takes, what lies in folders last: `film_small`, `astf/full`."""
    found = (path.relative_to(conf / group) for path in (conf / group).rglob("[!_]*.yaml"))
    names = {path.with_suffix("").as_posix() for path in found} | set(PLUGINS.get(group, ()))
    return sorted(names, key=lambda name: (name.count("/"), name))


def summary(conf: Path, group: str, name: str) -> str:
    """Return the first sentence of the comment that the file of a choice begins with."""
    path = conf / group / f"{name}.yaml"
    if not path.is_file():
        return PLUGINS[group][name]
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    first = re.split(r"(?<!e\.g)\.(?=\s|$)|: python train", " ".join(lines), maxsplit=1)[0]
    return first.strip()


def answer(conf: Path, door: str, program: str, arguments: Sequence[str]) -> str | None:
    """Return what was asked for, None if nothing was and the door is to be opened.

    Args:
        conf: the folder of configurations.
        door: `train` or `eval`, whose file it is.
        program: as the user calls the door: `python train.py`.
        arguments: what followed.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if value in ASKING and (of := group_of(conf, key)) and value not in choices(conf, of[0]):
            return _listing(conf, *of)
    return _help(conf, door, program) if {"-h", "--help"} & set(arguments) else None


def _listing(conf: Path, group: str, folder: str) -> str:
    """Return the choices of a group with what each is."""
    names = [name for name in choices(conf, group) if name.startswith(folder)]
    if not names:
        return f"{group}: no choices"
    indent = min(max(map(len, names)), 34) + 4
    lines = [_entry(name, summary(conf, group, name), indent) for name in names]
    return "\n".join([f"{group}=", *lines])


def _entry(name: str, text: str, indent: int) -> str:
    """Return two columns, the second wrapped."""
    lines = textwrap.wrap(text, WIDTH - indent, break_on_hyphens=False) or [""]
    if len(name) + 4 > indent:
        lines.insert(0, "")
    start = f"  {name}".ljust(indent)
    return f"\n{' ' * indent}".join([start + lines[0], *lines[1:]]).rstrip()


def introduced(conf: Path, door: str) -> tuple[list[Line], list[Line]]:
    """Return the groups that a door's configuration introduces, and its settings."""
    text = (conf / f"{door}.yaml").read_text(encoding="utf-8")
    line = r"^{}([\w/]+): ([^\s#]+) *# (.*)$"
    found = [
        [
            Line(key, re.sub(r"\$\{[^}]*?(\w+)\}", r"<\1>", value), comment)
            for key, value, comment in re.findall(pattern, text, re.MULTILINE)
        ]
        for pattern in (line.format("  - (?:override )?"), line.format(""))
    ]
    return found[0] + ([LAUNCHER] if door == "train" else []), found[1]


def _help(conf: Path, door: str, program: str) -> str:
    own, settings = introduced(conf, door)
    return "\n".join(
        [
            f"usage: {program} [GROUP=CHOICE ...] [KEY=VALUE ...]",
            "",
            *PURPOSE[door],
            "",
            f"Groups: * is the default; {program} model=help tells what each choice is",
            *(line for group in own for line in _group(conf, group)),
            "",
            f"Settings: {program} --cfg job prints all of them, those of the groups too",
            *(_entry(f"{s.key}={s.value}", s.comment, 24) for s in settings),
            "",
            examples(door, program),
            "",
            *READING[door],
        ]
    )


def examples(door: str, program: str) -> str:
    """Return commands that open a door, each with what it is for."""
    width = max(len(example) for example, _ in EXAMPLES[door]) + 2
    lines = [f"  {program} {example:<{width}}{text}" for example, text in EXAMPLES[door]]
    return "\n".join(["examples:", *(line.rstrip() for line in lines)])


def _group(conf: Path, group: Line) -> Iterator[str]:
    yield _entry(group.key, group.comment, 18)
    if names := choices(conf, group.key):
        marked = " ".join(f"*{name}" if name == group.value else name for name in names)
        yield _entry("", marked, 18)


# Choices that no file of conf/ makes, but Hydra or a plug-in of it.
PLUGINS = {
    "hydra/launcher": {
        "basic": "One after another, in this process",
        "joblib": "Several at a time on this machine; wants the extra joblib",
        "ray": "On a Ray cluster, or on all cores of this machine; wants the extra ray",
        "submitit_local": "As on SLURM, in processes of this machine; wants the extra slurm",
    }
}
LAUNCHER = Line("hydra/launcher", "basic", "where they run; one after another if none is chosen")
PURPOSE = {
    "train": (
        "Train a network to undo what a lossy medium does to clips, and score its best checkpoint,",
        "the untouched input and some filters on clips that nothing was trained on.",
    ),
    "eval": (
        "Score a checkpoint, or a filter that has nothing to learn, beside the untouched input and",
        "the filters that every user has.",
    ),
}
EXAMPLES = {
    "train": (
        ("model=ccdnet loss=grad_gan", "what a run without arguments is"),
        ("trainer=tiny logger=csv", "seconds: does it work at all?"),
        ("seed=1 optimizer.lr=1e-3", "any key of the configuration"),
        ("data.batch=4 trainer.max_steps=2000", ""),
        ("source=folder source.path=FOLDER", "your own clips"),
        ("experiment=astf/small", "a whole recipe"),
        ("ckpt=last", "go on with a run that was killed"),
        ("'~model@baselines.nlmeans'", "leave one baseline out"),
        ("-m loss=l1,grad seed=0,1,2", "six runs"),
        ("-m sweep=NAME", "those that a file of conf/sweep lists"),
        ("-m seed=0,1 hydra/launcher=joblib", "several at a time on this machine"),
    ),
    "eval": (
        ("ckpt=runs/.../checkpoints/best.ckpt", "on the clips of the default mixture"),
        ("ckpt=last source=clips", "the newest checkpoint, on other clips"),
        ("model=nlmeans degradation=hevc", "a filter, on another medium"),
        ("ckpt=last save=true", "keep every frame"),
    ),
    "enhance": (
        ("cat.gif cat.png", "an animation, by the newest checkpoint that fits"),
        ("cat.gif cat.mp4 --compare", "also before and after side by side"),
        ("film.mp4 out.mp4 --ckpt runs/.../checkpoints/best.ckpt", "by this network"),
        ("cat.gif smooth.gif --model gaussian", "by a filter, which learnt nothing"),
        ("film.mp4 film60.mp4 --factor 2", "twice the frames"),
        ("film.mp4 out.mp4 --tile 256", "in tiles, where memory is short"),
    ),
    "report": (
        ("", "of all in runs/, into runs/report"),
        ("runs/ccdnet_grad_gan --out tables", "of some"),
        ("RUN --study page.html --of pixelsr:t1", "a page that asks people"),
        ("--answers answers.csv", "what they said"),
    ),
    "fetch": (("", "once, while there is a network"),),
    "doctor": (("", "before the first run"), ("--json", "for a bug report")),
}
READING = {
    "train": (
        "Results: runs/<name>/<date>_<time>_<hash>/, of which summary.json has the means, rows.csv",
        "a row per clip and checkpoints/best.ckpt the network; report.py collects all runs.",
        "Read on: README.md, docs/metrics.md, docs/data.md, experiments/README.md.",
    ),
    "eval": (
        "Results: runs/eval/<date>_<time>_<hash>/, of which summary.json has the means, rows.csv",
        "a row per clip; report.py collects all runs.",
        "Read on: README.md, docs/metrics.md, docs/data.md.",
    ),
}
