"""The house from outside: what the documents promise, what is in git, what the package declares."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import unlossy

ROOT = Path(__file__).parents[1]
# Written so that this file does not hold what it looks for.
MACHINE_PATHS = re.compile(r"/(wor[k]|far[m]|roo[t]|op[t]|Use[r]s)/|/hom[e]/\w")
REGISTRY_HOSTS = re.compile(
    r"pythonhoste[d]\.org|pyp[i]\.org|registr[y]\.npmjs|download\.pytorc[h]\.org|hugg[i]ngface\.co"
)


@pytest.fixture(scope="module")
def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError:
        return ""


def test_every_target_of_the_makefile_is_documented_and_is_no_file():
    text = text_of(ROOT / "Makefile")
    rules = re.findall(r"^([a-z][a-z-]*):(.*)$", text, re.MULTILINE)
    assert len(rules) > 8
    assert not [name for name, rest in rules if "## " not in rest]
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert sorted(phony.split()) == sorted(name for name, _ in rules)


def test_make_alone_prints_the_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("train", "test", "lint", "bench", "doctor"):
        assert re.search(rf"^  make {target} +\S", done.stdout, re.MULTILINE)


def test_a_missing_python_gets_a_sentence(tmp_path):
    """On a machine without any Python: a PATH that holds only what the recipe's shell needs."""
    done = subprocess.run(
        ["make", "-C", str(ROOT), "install", f"VENV={tmp_path / 'venv'}", "PYTHON=none"],
        env={"PATH": str(tmp_path)} | {"MAKEFLAGS": ""},
        executable=subprocess.check_output(["which", "make"], text=True).strip(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "unlossy needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_the_first_screen_of_the_readme_has_the_commands_the_picture_and_the_table():
    screen = "\n".join(text_of(ROOT / "README.md").splitlines()[:30])
    for part in ("make train", "make test", "](docs/before_after.png)"):
        assert part in screen
    assert (ROOT / "docs" / "before_after.png").stat().st_size > 0
    (table,) = re.findall(r"<!-- table .*?-->(.*?)<!-- /table -->", screen, re.DOTALL)
    header, rule, *lines = [line for line in table.splitlines() if line.startswith("|")]
    assert re.fullmatch(r"\|( *:?-+:? *\|)+", rule)
    assert {line.count("|") for line in (header, *lines)} == {rule.count("|")}
    for row in ("input", "ccdnet"):
        assert any(row in line.split("|")[1] for line in lines)


def test_links_of_the_documents_lead_somewhere(tracked):
    dead = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in tracked
        if page.suffix == ".md"
        for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text_of(page))
        if not (page.parent / link).exists()
    ]
    assert not dead


def test_the_version_is_in_the_changelog():
    assert f"## [{unlossy.__version__}]" in text_of(ROOT / "CHANGELOG.md")


def test_ci_lints_and_tests():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert re.findall(r"^make (\w+)$", text_of(script), re.MULTILINE) == ["lint", "test"]


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRY_HOSTS], ids=["paths", "hosts"])
def test_no_file_names_a_machine_or_a_registry(tracked, pattern):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked
        for number, line in enumerate(text_of(path).splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_large_is_in_git(tracked):
    spared = ROOT / "tests" / "parity"
    large = [
        p for p in tracked if p.is_file() and p.stat().st_size > 2**20 and spared not in p.parents
    ]
    assert not large


def test_every_package_that_is_imported_is_declared():
    """Also by `python -c`: what a dependency of ours happens to bring is not ours to import."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    extras = {name: own for name, own in project["optional-dependencies"].items() if name != "dev"}
    lines = [*project["dependencies"], *itertools.chain(*extras.values())]
    declared = {re.split(r"[^\w-]", line)[0].lower() for line in lines}
    providers = metadata.packages_distributions()
    missing = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - {"unlossy"}:
                distributions = {d.lower().replace("_", "-") for d in providers.get(name, [name])}
                if name not in sys.stdlib_module_names and not distributions & declared:
                    missing.add(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_constraints_pin_every_dependency_within_its_bounds():
    from packaging.requirements import Requirement

    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in text_of(ROOT / "constraints.txt").splitlines()
        if line and not line.startswith("#")
    )
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    lines = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    assert not [pin for pin in pins.values() if "+" in pin], "no index has a local version"
    for wanted in map(Requirement, lines):
        if wanted.name == "unlossy":  # its own extras
            continue
        pinned = pins[wanted.name.lower()]
        assert wanted.specifier.contains(pinned, prereleases=True), f"{wanted}, pinned {pinned}"


def test_every_lower_bound_has_its_reason():
    text = text_of(ROOT / "pyproject.toml")
    lines = re.findall(r'^.*"[\w.-]+>=.*$', text, re.MULTILINE)
    count = sum(
        len(own) for own in tomllib.loads(text)["project"]["optional-dependencies"].values()
    )
    assert len(lines) >= len(tomllib.loads(text)["project"]["dependencies"]) + count - 1
    unreasoned = [line for line in lines if not re.search(r"\]?,?\s+# \S", line)]
    assert not [line for line in unreasoned if not line.startswith("requires")]
