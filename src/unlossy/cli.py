"""The doors: `unlossy train | eval | enhance | report | fetch | doctor`, also as scripts.

A user's mistake ends in one sentence and exit code 2, Ctrl-C in 130, a reader that went away
(`| head`) in 141. Anything else is a defect and shows its trace.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unlossy.errors import UserError

if TYPE_CHECKING:  # not needed by every verb
    from omegaconf import DictConfig

    from unlossy.models.model import EnhancementModel

PACKAGE = Path(__file__).parent
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if p.is_dir())


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a user's mistake into one sentence on stderr and exit code 2, our warnings into one."""
    usual = warnings.formatwarning
    own = str(PACKAGE)

    def formatted(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if filename.startswith(own):
            return f"warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        try:
            yield
        finally:
            print(end="", flush=True)  # a reader that went away shows now, not as Python ends
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _end_unread()
        raise
    finally:
        warnings.formatwarning = usual


def _end_unread() -> None:
    """End quietly, with what a shell calls SIGPIPE, if it is stdout that nobody reads any more."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def train() -> None:
    """Train one configuration: `train.py model=ccdnet loss=grad_gan`."""

    def start(cfg: DictConfig, hydra: DictConfig) -> None:
        from unlossy.training import stages

        stages.train(cfg, hydra.runtime.choices, hydra.overrides.task)

    _hydra("train", start)


def evaluate() -> None:
    """Score a checkpoint or a baseline: `eval.py ckpt=PATH`."""

    def start(cfg: DictConfig, hydra: DictConfig) -> None:
        from unlossy.training import runs

        runs.evaluate(cfg, hydra.runtime.choices)

    _hydra("eval", start)


@refusing()
def _hydra(config_name: str, start: Callable[[DictConfig, DictConfig], None]) -> None:
    from unlossy import choices

    answer = choices.answer(CONF, config_name, _program(config_name), sys.argv[1:])
    if answer is not None:
        print(answer)
        return

    import hydra
    from hydra.core.hydra_config import HydraConfig

    from unlossy import refusals

    with refusals.told(CONF, config_name, sys.argv[1:]) as composed:
        _refuse_wandb_sweep(sys.argv[1:])

        def task(cfg: DictConfig) -> None:
            composed()
            with refusing():
                start(cfg, cast("DictConfig", HydraConfig.get()))

        hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()


def _refuse_wandb_sweep(arguments: Sequence[str]) -> None:
    """Refuse a file of conf/sweep that is not for Hydra, which could not make anything of it."""
    for argument in arguments:
        path = CONF / "sweep" / f"{argument.removeprefix('sweep=')}.yaml"
        written = path.read_text(encoding="utf-8") if path.is_file() else ""
        if argument.startswith("sweep=") and "\nprogram:" in written:
            own = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            raise UserError(
                f"{argument} is a sweep that W&B runs, not Hydra: in a checkout of the repository "
                f"type wandb sweep {own}, then wandb agent ID."
            )


def _program(verb: str) -> str:
    """Return how a door was called: `python train.py` or `unlossy train`."""
    script = Path(sys.argv[0]).name
    return f"python {script}" if script.endswith(".py") else f"unlossy {verb}"


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Return a parser whose help ends with examples."""
    from unlossy import choices

    program = _program(verb)
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=choices.examples(verb, program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@refusing()
def enhance() -> None:
    """Restore a user's own file: `enhance.py IN OUT [--ckpt PATH] [--factor N]`."""
    options = _enhance_options()
    from unlossy.inference.enhance import enhance as enhance_file
    from unlossy.inference.outputs import GifStyle
    from unlossy.inference.timeline import Timing, exactly

    enhance_file(
        options.source,
        options.target,
        model=_without_checkpoint(options.model) if options.model else options.ckpt,
        run_root=options.run_root,
        device=options.device,
        precision=options.precision,
        timing=Timing(
            None if options.factor is None else exactly(options.factor),
            None if options.fps is None else exactly(options.fps),
            exactly(options.slow),
        ),
        tile=options.tile,
        compare=options.compare,
        style=GifStyle(options.palette, options.colors, options.dither),
    )


def _enhance_options() -> argparse.Namespace:
    parser = _parser("enhance", "Restore a GIF, video, image or folder of frames.")
    parser.add_argument("source", type=Path, metavar="IN", help="GIF, video, image, folder or glob")
    parser.add_argument(
        "target",
        type=Path,
        metavar="OUT",
        help=".gif, .mp4, .mkv, .webm, .png, or a folder of frames",
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--ckpt", type=Path, help="a checkpoint; default: the newest that fits, under --run-root"
    )
    model.add_argument("--model", metavar="NAME", help="a filter of conf/model: identity, ...")
    parser.add_argument("--run-root", type=Path, default=Path("runs"), help="where runs lie")
    frames = parser.add_mutually_exclusive_group()
    frames.add_argument(
        "--factor",
        metavar="N",
        help="frames out for each one in; unasked, a model that interpolates makes 2",
    )
    frames.add_argument("--fps", metavar="X", help="frames per second: 60, 59.94, 60000/1001")
    parser.add_argument(
        "--slow", metavar="S", default="1", help="S times as long at the same rate, without sound"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also write both films in one, such as cat.compare.mp4",
    )
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="side of tiles, to save memory")
    parser.add_argument(
        "--device", default="auto", help="auto, cpu or cuda; --model runs on the CPU"
    )
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16")
    )
    gif = parser.add_argument_group("of a .gif")
    gif.add_argument("--palette", default="frame", choices=("frame", "global"), help="scope")
    gif.add_argument("--colors", type=int, default=256, metavar="N", help="2 to 256 (default 256)")
    gif.add_argument("--dither", default="none", choices=("none", "floyd_steinberg", "bayer"))
    return parser.parse_args()


def _without_checkpoint(name: str) -> EnhancementModel:
    """Build the filter of conf/model/NAME.yaml.

    Raises:
        UserError: there is none, or it has to learn first.
    """
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    def options(path: Path) -> dict[str, Any]:
        return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path)))

    def ready(path: Path) -> bool:
        target = options(path).get("_target_")
        kind: Any = get_class(target) if target else None
        return kind is not None and not kind.trainable and kind.fits_on != "train"

    known = {path.stem: path for path in sorted((CONF / "model").glob("*.yaml"))}
    chosen = known.get(name)
    if chosen is None or not ready(chosen):
        choices = ", ".join(stem for stem, path in known.items() if ready(path))
        learns = "has to learn first, so give --ckpt PATH" if chosen else "is unknown"
        raise UserError(f"--model {name} {learns}; without a checkpoint there are {choices}.")
    arguments = options(chosen)
    return cast("EnhancementModel", get_class(arguments.pop("_target_"))(**arguments))


@refusing()
def report() -> None:
    """Collect runs into tables and plots, or ask people: `report.py DIR`."""
    parser = _parser("report", "Tables and plots of all runs.")
    parser.add_argument("root", type=Path, metavar="DIR", nargs="?", default=Path("runs"))
    parser.add_argument("--out", type=Path, help="folder to write (default DIR/report)")
    parser.add_argument("--publish", type=Path, metavar="FOLDER", help="write rows, cards, figures")
    parser.add_argument(
        "--tables", action="store_true", help="remake tables of Markdown files here"
    )
    parser.add_argument("--wandb", metavar="PROJECT", help="save a dashboard in W&B's PROJECT")
    study = parser.add_argument_group("real or generated?", "of one run's frames (save=true)")
    study.add_argument("--study", type=Path, metavar="HTML", help="write a page that asks people")
    study.add_argument("--of", metavar="LABEL", help="whose frames, such as pixelsr:t1")
    study.add_argument("--pairs", type=int, default=50, help="pairs to ask about (default 50)")
    study.add_argument("--seed", type=int, default=0, help="of the pairs, their order and sides")
    study.add_argument("--answers", type=Path, nargs="+", metavar="CSV", help="share fooled")
    study.add_argument("--proxy", action="store_true", help="let a small network guess instead")
    options = parser.parse_args()
    if (options.study or options.proxy) and not options.of:
        parser.error("--study and --proxy need --of LABEL, such as --of pixelsr:t1")
    if options.answers:
        from unlossy.report.study import read_answers

        print(*read_answers(options.answers), sep="\n")
    elif options.tables:
        from unlossy.report.published import rewrite

        moved = [str(path) for path in rewrite(Path.cwd())]
        print(*moved or ["every table is what its CSV file says"], sep="\n")
    elif options.publish:
        from unlossy.report.lab_book import publish

        print(*publish(options.root, options.publish), sep="\n")
    elif options.wandb:
        from unlossy.report.dashboard import save_dashboard

        print(save_dashboard(options.root, options.wandb))
    elif options.study:
        from unlossy.report.study import write_study

        print(write_study(options.root, options.of, options.study, options.pairs, options.seed))
    elif options.proxy:
        print(_proxy(options.root, options.of, options.seed))
    else:
        from unlossy.report import write_page, write_report

        out = options.out or options.root / "report"
        print(write_report(options.root, out), write_page(options.root, out), sep="\n")


def _proxy(run: Path, label: str, seed: int) -> str:
    """Return a line about how often a small network takes a run's frames for the clean ones."""
    from unlossy.metrics.two_sample import fooled_proxy
    from unlossy.report.saved_frames import load_pairs, saved_pairs

    pairs = saved_pairs(run, label)
    clips = [pair.clip for pair in pairs]
    if len(set(clips)) < 2:
        raise UserError(f"{run} holds {len(set(clips))} clips of {label}; --proxy needs two.")
    share = fooled_proxy(*load_pairs(pairs), clips, seed=seed)
    return f"{label}: fooled_proxy {share:.1%} of {len(pairs)} pairs, half of them to train on"


@refusing()
def fetch() -> None:
    """Fetch every asset once, so that everything later works offline."""
    _parser("fetch", "Fetch every asset once, so that everything later works offline.").parse_args()
    from unlossy import assets

    for name, path in assets.fetch_all().items():
        print(f"{name}: {path}")


@refusing()
def doctor() -> None:
    """Check versions, codecs, GPU, assets and write access."""
    parser = _parser("doctor", "What this machine has, what it lacks, and how to mend it.")
    parser.add_argument("--json", action="store_true", help="print it for a program")
    options = parser.parse_args()
    from unlossy.doctor import doctor as examine

    sys.exit(examine(as_json=options.json))


VERBS = {
    "train": train,
    "eval": evaluate,
    "enhance": enhance,
    "report": report,
    "fetch": fetch,
    "doctor": doctor,
}


@refusing()
def main() -> None:
    """Run the verb named by the first argument on the rest."""
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb not in VERBS:
        lines = [f"  {name:8s} {verb_of.__doc__}" for name, verb_of in VERBS.items()]
        wanted = verb in ("-h", "--help")
        print(
            "usage: unlossy VERB ...\n" + "\n".join(lines),
            file=sys.stdout if wanted else sys.stderr,
        )
        sys.exit(0 if wanted else 2)
    del sys.argv[1]
    VERBS[verb]()
