"""The digest of code: what changes it, what does not, and how far it reaches."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from cwbench.internal import code_digest


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
    return code_digest.of_code(f"{folder.name}.defense", packages=())


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


def test_another_name_of_the_page_under_the_same_alias_is_other_code(package):
    path = package / "defense.py"

    def imports(text: str) -> str:
        path.write_text(f"from cwbench.api import {text}\nBALL = Ball\n")
        return code_digest.of_code(f"{package.name}.defense", packages=("api",))

    assert imports("L2 as Ball") != imports("Linf as Ball"), "both are defined by the same module"
    assert imports("trades_loss as a, mart_loss as b, L2 as Ball") != imports(
        "trades_loss as b, mart_loss as a, L2 as Ball"
    )
    assert imports("trades_loss, mart_loss, L2 as Ball") == imports("L2 as Ball, mart_loss, trades_loss")


def test_which_function_imports_which_name_counts(package):
    path = package / "defense.py"
    source = "def f():\n    from cwbench.api import {} as loss\n\n\ndef g():\n    from cwbench.api import {} as loss\n"
    path.write_text(source.format("mart_loss", "trades_loss"))
    before = code_digest.of_code(f"{package.name}.defense", packages=("api",))
    path.write_text(source.format("trades_loss", "mart_loss"))
    assert code_digest.of_code(f"{package.name}.defense", packages=("api",)) != before


def test_modules_that_swap_their_code_are_other_code(package):
    (package / "defense.py").write_text("from .one import f\nfrom .two import f as g\nprint(f(1) - g(1))\n")
    (package / "one.py").write_text("def f(x):\n    return x\n")
    (package / "two.py").write_text("def f(x):\n    return -x\n")
    before = code(package)
    (package / "one.py").rename(package / "three.py")
    (package / "two.py").rename(package / "one.py")
    (package / "three.py").rename(package / "two.py")
    assert code(package) != before


@pytest.mark.parametrize(
    "imports", ["from .deep import constants", "from {name}.deep import constants", "import {name}.deep.constants"]
)
def test_the_packages_around_a_module_run_when_it_is_imported(package, imports):
    (package / "defense.py").write_text(imports.format(name=package.name) + "\n")
    before = code(package)
    (package / "deep" / "__init__.py").write_text("import torch\ntorch.set_default_dtype(torch.float64)\n")
    assert code(package) != before
    before = code(package)
    (package / "__init__.py").write_text("import torch\ntorch.set_default_dtype(torch.float32)\n")
    assert code(package) != before


VALUES = {
    "a class that ends in Error and computes": (
        "loss = MeanSquaredError(squared=True)",
        "loss = MeanSquaredError(squared=False)",
    ),
    "its text": ("loss = MeanSquaredError('mean')", "loss = MeanSquaredError('sum')"),
    "a method": ("y = self.meanAbsoluteError(x, beta=1)", "y = self.meanAbsoluteError(x, beta=2)"),
    "a value that is raised and caught": ("raise Found(1)", "raise Found(2)"),
    "a class of one's own with an error's name": (
        "class DataError:\n    x = 1\n\nloss = DataError('l1')",
        "class DataError:\n    x = 1\n\nloss = DataError('l2')",
    ),
    "another's with an error's name": (
        "from .deep import DataError\nloss = DataError('l1')",
        "from .deep import DataError\nloss = DataError('l2')",
    ),
    "a text that is no error's": ("raise Found('left')", "raise Found('right')"),
    "an index": ("raise IndexError(x, 1)", "raise IndexError(x, 2)"),
    "a text that counts on": ("raise ValueError(f'{(n := n + 1)}')", "raise ValueError(f'{(n := n + 2)}')"),
}


@pytest.mark.parametrize("what", VALUES)
def test_what_is_no_text_of_an_error_counts(package, what):
    path, before, after = package / "losses.py", *VALUES[what]
    path.write_text(before)
    first = code(package)
    path.write_text(after)
    assert code(package) != first


TEXTS = {
    "a hint that was added": ("raise ValueError('no')", "raise ValueError('no', 'try yes')"),
    "another format": ("raise UsageError(f'{x} is no', hint='a')", "raise UsageError('%s is not' % x, hint='b')"),
    "one of two": ("raise DataError('a' if x else 'b')", "raise DataError('a' if x else 'c')"),
    "a join": ("raise KeyError(', '.join(names))", "raise KeyError('; '.join(names) + '!')"),
    "one's own error": ("raise errors.MyError('a')", "raise errors.MyError('b')"),
    "an error that is returned": ("def f():\n    return UsageError('a')", "def f():\n    return UsageError('b')"),
    "an assertion": ("assert x > 0, 'x is small'", "assert x > 0, f'{x} is small'"),
    "a text on a line of its own": ("if x:\n    y = 1\n    'why'", "if x:\n    y = 1\n    'because'"),
}


@pytest.mark.parametrize("what", TEXTS)
def test_what_an_error_says_does_not_count(package, what):
    path, before, after = package / "losses.py", *TEXTS[what]
    path.write_text(before)
    first = code(package)
    path.write_text(after)
    assert code(package) == first


def test_another_distribution_that_a_plugin_imports_counts_by_its_version(package, monkeypatch):
    (package / "defense.py").write_text("import pytest\nimport torch\nimport json\n")
    before = code(package)
    assert code_digest.code_of(f"{package.name}.defense", packages=())[f"{package.name}.defense"].versions == (
        f"pytest {pytest.__version__}",
    )
    monkeypatch.setattr(code_digest, "version", lambda name: "99")
    assert code(package) != before


def test_a_compiled_module_counts_by_its_bytes(package):
    (package / "defense.py").write_text("from ._fast import loss\n")
    compiled = package / f"_fast{EXTENSION_SUFFIXES[0]}"
    compiled.write_bytes(b"one")
    before = code(package)
    compiled.write_bytes(b"two")
    assert code(package) != before


def test_a_distribution_installed_for_editing_counts_by_its_code(package, monkeypatch):
    monkeypatch.setattr(code_digest, "_distributions", lambda: {package.name: ["someones-losses"]})
    monkeypatch.setattr(code_digest, "distribution", lambda name: Editable)
    code_digest._is_editable.cache_clear()
    (package.parent / "plugin_of_another.py").write_text(f"from {package.name}.losses import total\n")
    before = code_digest.of_code("plugin_of_another", packages=())
    (package / "deep" / "constants.py").write_text("SIGN = -1\n")
    assert code_digest.of_code("plugin_of_another", packages=()) != before
    code_digest._is_editable.cache_clear()


class Editable:
    @staticmethod
    def read_text(name: str) -> str:
        assert name == "direct_url.json"
        return '{"url": "file:///somewhere", "dir_info": {"editable": true}}'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("if TYPE_CHECKING:\n    from os import path\nx = 1", "if TYPE_CHECKING:\n    from os import sep\nx = 1"),
        (
            "from cwbench.api import SGD\nfrom cwbench.api import L2",
            "from cwbench.api import L2\nfrom cwbench.api import SGD",
        ),
    ],
)
def test_what_only_a_type_checker_sees_and_the_order_of_imports_do_not_count(package, before, after):
    path = package / "losses.py"
    path.write_text(before)
    first = code(package)
    path.write_text(after)
    assert code(package) == first


def test_a_definition_after_an_import_of_the_same_name_is_other_code_than_before_it(package):
    path = package / "losses.py"
    path.write_text("from cwbench.api import mart_loss\n\n\ndef mart_loss():\n    return 0\n")
    first = code(package)
    path.write_text("def mart_loss():\n    return 0\n\n\nfrom cwbench.api import mart_loss\n")
    assert code(package) != first


def test_code_nested_too_deeply_to_be_read_is_new_each_time(package):
    (package / "losses.py").write_text("X = " + "+".join(["1"] * 5000) + "\n")
    assert code(package) != code(package)


def test_a_package_that_ends_the_program_ends_nothing_here(package):
    (package / "defense.py").write_text(f"def f():\n    from {package.name}.deep.constants import SIGN\n")
    (package / "deep" / "__init__.py").write_text("import sys\nsys.exit(3)\n")
    code(package)


def test_a_module_beside_a_single_file_is_its_own(tmp_path, monkeypatch):
    """A plugin of two modules that no distribution claims, as an editable install or a script leaves them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"single_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"import {name}_losses\nimport json, torch\n")
    (tmp_path / f"{name}_losses.py").write_text("SIGN = 1\n")
    before = code_digest.of_code(name, packages=())
    assert code_digest.of_code(name, packages=()) == before
    (tmp_path / f"{name}_losses.py").write_text("SIGN = -1\n")
    assert code_digest.of_code(name, packages=()) != before


def test_packages_that_cannot_be_imported_or_read_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"lazy_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(f"def optional():\n    from {name}_side.sub import thing\n")
    (tmp_path / f"{name}_side").mkdir()
    (tmp_path / f"{name}_side" / "__init__.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / f"{name}_side" / "sub.py").write_text("thing = 1\n")
    code_digest.of_code(name, packages=())
    (tmp_path / f"{name}.py").write_text("def (")
    assert code_digest.of_code(name, packages=()) != code_digest.of_code(name, packages=()), (
        "what cannot be read is new each time"
    )


def test_code_without_a_file_is_never_taken_for_the_same(monkeypatch):
    module = type(sys)("typed_in")
    monkeypatch.setitem(sys.modules, "typed_in", module)
    assert code_digest.of_code("typed_in", packages=()) != code_digest.of_code("typed_in", packages=())
