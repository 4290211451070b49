"""The digest of code: what changes it, what does not, and how far it reaches."""

import sys
from pathlib import Path

import pytest

from cwbench.internal import digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of a plugin's: the defense imports its losses, which import a constant."""
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / f"plug_{tmp_path.name}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "defense.py").write_text(
        '"""Doc."""\nfrom . import losses\n\n\ndef loss(x):\n    """Doc."""\n    return losses.total(x)\n'
    )
    (folder / "losses.py").write_text("def total(x):\n    from .deep.constants import SIGN\n    return SIGN * x\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "__init__.py").write_text("")
    (folder / "deep" / "constants.py").write_text("SIGN = 1\n")
    (folder / "unrelated.py").write_text("x = 1\n")
    return folder


def code(folder: Path) -> str:
    return digest.of_code(f"{folder.name}.defense", packages=())


@pytest.mark.parametrize("name", ["defense.py", "losses.py", "deep/constants.py", "__init__.py"])
def test_a_change_anywhere_it_imports_from_changes_it(package, name):
    before = code(package)
    assert code(package) == before
    path = package / name
    path.write_text(path.read_text().replace("1", "-1") + "\nchanged = True\n")
    assert code(package) != before


def test_comments_docstrings_and_other_files_do_not(package):
    before = code(package)
    path = package / "defense.py"
    path.write_text(path.read_text().replace("Doc.", "Another text.") + "\n# a comment\n")
    (package / "unrelated.py").write_text("x = 2\n")
    assert code(package) == before


def test_the_text_of_an_error_and_the_place_of_a_module_do_not(package):
    path = package / "losses.py"
    path.write_text(path.read_text() + "\n\ndef refuse(x):\n    raise ValueError(f'{x} is wrong')\n")
    before = code(package)
    path.write_text(path.read_text().replace("is wrong", "is not right"))
    assert code(package) == before
    (package / "deep" / "constants.py").rename(package / "deep" / "numbers.py")
    path.write_text(path.read_text().replace("from .deep.constants import", "from .deep.numbers import"))
    assert code(package) != before, "its own import says another thing; only cwbench's modules move without a trace"


def test_a_module_beside_a_single_file_is_its_own(tmp_path, monkeypatch):
    """A plugin of two modules that no distribution claims, as an editable install or a script leaves them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"single_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"import {name}_losses\nimport json, torch\n")
    (tmp_path / f"{name}_losses.py").write_text("SIGN = 1\n")
    before = digest.of_code(name, packages=())
    assert digest.of_code(name, packages=()) == before
    (tmp_path / f"{name}_losses.py").write_text("SIGN = -1\n")
    assert digest.of_code(name, packages=()) != before


def test_packages_that_cannot_be_imported_or_read_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"lazy_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"def optional():\n    from {name}_side.sub import thing\n")
    (tmp_path / f"{name}_side").mkdir()
    (tmp_path / f"{name}_side" / "__init__.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / f"{name}_side" / "sub.py").write_text("thing = 1\n")
    digest.of_code(name, packages=())
    (tmp_path / f"{name}.py").write_text("def (")
    assert digest.of_code(name, packages=()) != digest.of_code(name, packages=()), (
        "what cannot be read is new each time"
    )


def test_code_without_a_file_is_never_taken_for_the_same(monkeypatch):
    module = type(sys)("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    assert digest.of_code("typed_in", packages=()) != digest.of_code("typed_in", packages=())
