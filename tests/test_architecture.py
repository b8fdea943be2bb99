"""The rules of the house, read off the syntax trees: who imports whom, what no file may hold."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "unlossy"
PLUGINS = ROOT / "src" / "hydra_plugins"
FILES = sorted([*SRC.rglob("*.py"), *PLUGINS.rglob("*.py")])
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

MEDIA = frozenset({"video", "gif_file", "assets", "checkpoint"})
EVERYTHING = frozenset(
    path.relative_to(SRC).parts[0].removesuffix(".py") for path in SRC.rglob("*.py")
)
# room (a folder or top-level module) -> rooms it may import; its own, and errors, always.
MAY_IMPORT = {
    "errors": frozenset(),
    "_torchvision": frozenset(),
    "sample": frozenset(),
    "networks": frozenset(),
    "assets": frozenset(),
    "gif_file": frozenset(),
    "video": frozenset(),
    "models": frozenset({"sample", "networks", "assets"}),
    "losses": frozenset({"sample", "networks", "assets"}),
    "metrics": frozenset({"sample", "networks", "assets"}),
    "degradations": MEDIA | {"sample"},
    "data": MEDIA | {"sample"},
    "checkpoint": frozenset({"sample", "models", "networks"}),
    "inference": frozenset({"sample", "video", "gif_file", "models", "checkpoint"}),
    "report": frozenset(),
    "choices": frozenset(),
    "refusals": frozenset({"choices"}),
    "training": EVERYTHING - {"cli", "doctor"},
    "doctor": EVERYTHING - {"cli", "training"},
    "cli": EVERYTHING,
    "hydra_plugins": frozenset({"cli", "refusals", "training"}),  # one more door
    "__init__": frozenset({"checkpoint", "inference", "models"}),
}
MAY_ALSO_IMPORT = {
    "models/baselines.py": frozenset({"video"}),  # FFmpeg filters as baselines
    "models/interpolation_baselines.py": frozenset({"video"}),
    "data/restored.py": frozenset({"inference", "models"}),  # ADR 9: what a finished stage does
}
# foreign package -> the files and folders that may import it.
ONLY_IN = {
    "lightning": ("training/", "data/"),
    "hydra": (
        *("cli.py", "refusals.py", "training/configs.py", "training/sweep_overrides.py"),
        "hydra_plugins/",
    ),
    "optuna": (
        *("training/studies.py", "training/pruning.py", "training/sweep_overrides.py"),
        "hydra_plugins/",  # a type
    ),
    "wandb": ("training/wandb_run.py", "report/"),
    "wandb_workspaces": ("report/dashboard.py",),
    "av": ("video/",),
}
NEED_REMEDY = {"lightning", "torchmetrics", "lpips", "torchvision"}
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}


class Import(NamedTuple):
    line: int
    module: str  # dotted, relative imports resolved


def imports(path: Path) -> Iterator[Import]:
    """Yield every module that the file names in an import, wherever it stands."""
    package = list(path.relative_to(ROOT / "src").parent.parts)
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "unlossy":  # from unlossy import assets
                yield from (Import(node.lineno, f"unlossy.{a.name}") for a in node.names)
            else:
                yield Import(node.lineno, module)


def within(path: Path) -> str:
    """Return where a file lies in the package; plugins have a room beside its own."""
    return path.relative_to(SRC if path.is_relative_to(SRC) else ROOT / "src").as_posix()


def room(path: Path) -> str:
    return within(path).partition("/")[0].removesuffix(".py")


def place(path: Path, line: int) -> str:
    """`src/unlossy/x.py:7: the line itself`."""
    text = path.read_text(encoding="utf-8").splitlines()[line - 1].strip()
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def assert_none(found: list[str], rule: str) -> None:
    assert not found, rule + "\n  " + "\n  ".join(found)


def test_rooms_import_only_the_rooms_they_may():
    found = []
    for path in FILES:
        own, relative = room(path), within(path)
        assert own in MAY_IMPORT, f"{relative}: a new room; say in MAY_IMPORT whom it may import"
        allowed = MAY_IMPORT[own] | MAY_ALSO_IMPORT.get(relative, frozenset())
        allowed |= {own, "_torchvision"} | (set() if own == "networks" else {"errors"})
        for line, module in imports(path):
            parts = module.split(".")
            if parts[0] == "unlossy" and not {"__version__", *allowed}.issuperset(parts[1:2]):
                found.append(place(path, line))
    assert_none(found, "imports across a wall (see MAY_IMPORT)")


@pytest.mark.parametrize("package", ONLY_IN)
def test_foreign_packages_stay_where_they_belong(package):
    found = [
        place(path, line)
        for path in FILES
        if not within(path).startswith(ONLY_IN[package])
        for line, module in imports(path)
        if module.split(".")[0] == package
    ]
    assert_none(found, f"{package} may be imported only in {', '.join(ONLY_IN[package])}")


def test_the_torchvision_remedy_comes_before_all_that_import_torchvision():
    found = []
    for path in FILES:
        remedy = min(
            (i.line for i in imports(path) if i.module == "unlossy._torchvision"), default=0
        )
        for line, module in imports(path):
            needs = module.split(".")[0] in NEED_REMEDY and path.stem != "_torchvision"
            if needs and not 0 < remedy < line:
                found.append(place(path, line))
    assert_none(found, "`from unlossy import _torchvision` must stand before")


def test_importing_the_package_is_cheap():
    """The public API must not wait for torch, nor the model's user for Lightning and Hydra."""
    script = (
        "import sys, unlossy\n"
        "heavy = {'torch', 'lightning', 'hydra', 'wandb', 'torchmetrics', 'torchvision'}\n"
        "print(heavy & set(sys.modules))\n"
        "import unlossy.checkpoint, unlossy.inference.windows\n"
        "print((heavy - {'torch'}) & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["set()", "set()"]


def test_every_file_is_named_after_what_it_holds():
    found = [str(p.relative_to(ROOT)) for p in SRC.parent.rglob("*") if p.stem in FORBIDDEN_NAMES]
    assert_none(found, "a file or folder that could hold anything")


def test_files_hold_one_idea():
    found = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    ]
    assert_none(found, "more than 400 lines: a second idea hides in it")


def test_every_module_says_what_it_is():
    found = [str(path.relative_to(ROOT)) for path in FILES if not ast.get_docstring(TREES[path])]
    assert_none(found, "no module docstring")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_constructors_take_at_most_seven_arguments():
    found = []
    for path, tree in TREES.items():
        for function in functions(tree):
            arguments = function.args
            count = len(arguments.posonlyargs + arguments.args + arguments.kwonlyargs) - 1
            if function.name == "__init__" and count > 7:
                found.append(f"{place(path, function.lineno)} has {count}")
    assert_none(found, "more than seven constructor arguments: an object is missing")


def test_no_keyword_arguments_are_swallowed():
    """`**_` says that a foreign framework passes what we do not want; `**kwargs` must be used."""
    found = []
    for path, tree in TREES.items():
        for function in functions(tree):
            name = function.args.kwarg.arg if function.args.kwarg else "_"
            read = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
            if not name.startswith("_") and name not in read:
                found.append(place(path, function.lineno))
    assert_none(found, "keyword arguments are accepted and ignored")


def test_no_annotation_is_something_or_bool():
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)):
                continue
            if any(isinstance(s, ast.Name) and s.id == "bool" for s in (node.left, node.right)):
                found.append(place(path, node.lineno))
    assert_none(found, "`X | bool`: a default that nobody can see")


def test_no_module_keeps_state():
    """Upper-case names are constants; a lower-case container of a module is a global to mutate."""
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    found = []
    for path, tree in TREES.items():
        found += [place(path, n.lineno) for n in ast.walk(tree) if isinstance(n, ast.Global)]
        for node in tree.body:
            targets = (
                node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            )
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, displays):
                names = [t.id for t in targets if isinstance(t, ast.Name)]
                if any(name != name.upper() and not name.startswith("__") for name in names):
                    found.append(place(path, node.lineno))
    assert_none(found, "mutable module globals")


def test_base_exceptions_are_not_wrapped():
    found = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                catches_all = node.type is None or (
                    isinstance(node.type, ast.Name) and node.type.id == "BaseException"
                )
                last = node.body[-1]
                cleans_up = isinstance(last, ast.Raise) and last.exc is None
                if catches_all and not cleans_up:
                    found.append(place(path, node.lineno))
    assert_none(found, "BaseException caught and not raised again")


def test_the_library_does_not_print():
    """Doors, the report, and what a file does when it is run itself, may."""
    found = []
    for path, tree in TREES.items():
        scripts = [
            n for n in tree.body if isinstance(n, ast.If) and "__main__" in ast.unparse(n.test)
        ]
        spared = {inner for script in scripts for inner in ast.walk(script)}
        for node in ast.walk(tree):
            prints = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            if prints and node not in spared and room(path) not in ("cli", "report"):
                found.append(place(path, node.lineno))
    assert_none(found, "print outside the doors and the report")


def targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def resolves(target: str) -> bool:
    module, _, name = target.rpartition(".")
    while module:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, head = module.rpartition(".")
            name = f"{head}.{name}"
            continue
        for part in name.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return callable(found)
    return False


def test_every_target_in_conf_is_a_class_that_exists():
    from unlossy import _torchvision  # noqa: F401

    found = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in sorted((ROOT / "conf").rglob("*.yaml"))
        if path.parent.name != "local"  # machine settings, not in git
        for target in targets(yaml.safe_load(path.read_text(encoding="utf-8")))
        if "${" not in target and not resolves(target)
    ]
    assert_none(found, "`_target_` names nothing that can be called")
