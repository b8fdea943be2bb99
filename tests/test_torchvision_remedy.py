"""The import remedy: torchvision's users load, a sound one is left alone, nothing is hidden."""

import subprocess
import sys
from pathlib import Path


def run(code: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    prefix = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", prefix + code], capture_output=True, text=True
    )


def fake_torchvision(folder: Path, body: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(body)
    return folder


def test_torchvision_imports_silently_and_is_repaired_once() -> None:
    done = run(
        "import sys\n"
        "from unlossy import _torchvision\n"
        "import torchvision\n"
        "assert _torchvision._import() is None, 'a second repair'\n"
        "assert sys.modules['torchvision'] is torchvision\n"
        "import torchvision.models, torchvision.ops\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_sound_torchvision_is_left_alone(tmp_path: Path) -> None:
    folder = fake_torchvision(tmp_path, "")
    done = run("from unlossy._torchvision import SCHEMAS; assert SCHEMAS is None", folder)
    assert done.returncode == 0, done.stderr


def test_other_errors_are_not_hidden(tmp_path: Path) -> None:
    folder = fake_torchvision(tmp_path, "raise RuntimeError('a broken installation')")
    done = run("from unlossy import _torchvision", folder)
    assert done.returncode == 1
    assert "a broken installation" in done.stderr
