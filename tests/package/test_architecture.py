"""Theorems about the package itself: which way imports point, and what a class may be."""

import ast
import builtins
import functools
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import pytest

import rqf_jax as rqf

ROOT = Path(rqf.__file__).parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in ROOT.rglob("*.py")
}
SOURCES = {name.removesuffix(".__init__"): text for name, text in SOURCES.items()}

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
FLOORS = [
    set(re.findall(r"`(\w+)`", row.split("|")[2]))
    for row in PAGE.read_text(encoding="utf-8").split("## Floors")[1].split("##")[0].splitlines()
    if row.startswith("| ") and not row.startswith("| floor")
]
"""From the ground up; a module or family imports from floors below its own, and from no other."""

NO_MATHEMATICS = {"_fused", "_store", "plot", "io", "runs", "cli", "__init__", "__main__"}


@functools.cache
def nodes(text):
    """All parts of the syntax tree of a module."""
    return list(ast.walk(ast.parse(text)))


@functools.cache
def imports(text):
    """The import statements of a module, anywhere in its text."""
    return [node for node in nodes(text) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported(module, text, is_package, modules):
    """The modules of this package that `module` imports, anywhere in its text."""
    here = ["rqf_jax", *module.split(".")] if module != "__init__" else ["rqf_jax"]
    folder = here if is_package else here[:-1]
    for node in imports(text):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            up = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*up, *filter(None, [node.module])])
            targets = [f"{source}.{alias.name}" for alias in node.names]
        for target in targets:
            first, *rest = target.split(".")
            if first != "rqf_jax":
                continue
            # `from .module import name` is an import of the module; of the package, of its root.
            while rest and ".".join(rest) not in modules:
                rest.pop()
            yield ".".join(rest) or "__init__"


def violations(sources, floors):
    """Imports that point up or sideways, as sentences."""
    level = {unit: floor for floor, units in enumerate(floors) for unit in units}
    packages = {name.rpartition(".")[0] for name in sources} - {""} | {"__init__"}
    for module, text in sources.items():
        unit = module.split(".")[0]
        if unit not in level:
            yield f"{module} has no floor"
            continue
        for target in imported(module, text, module in packages, sources.keys()):
            other = target.split(".")[0]
            if other not in level:
                yield f"{module} imports {target}, which has no floor"
            elif other != unit and level[other] >= level[unit]:
                yield f"{module} imports {target}, which is not below it"


def cycles(sources):
    """Modules that import themselves through others."""
    packages = {name.rpartition(".")[0] for name in sources} - {""} | {"__init__"}
    arrows = {
        module: set(imported(module, text, module in packages, sources.keys())) - {module}
        for module, text in sources.items()
    }
    for start in arrows:
        reached, todo = set(), list(arrows[start])
        while todo:
            module = todo.pop()
            if module not in reached:
                reached.add(module)
                todo.extend(arrows.get(module, ()))
        if start in reached:
            yield start


def test_the_page_lists_at_most_eleven_floors_and_the_root_holds_at_most_fourteen_modules():
    assert 5 < len(FLOORS) <= 11
    assert len(list(ROOT.glob("*.py"))) <= 14


def test_no_file_of_the_package_has_more_than_four_hundred_lines():
    long = {name: text.count("\n") for name, text in SOURCES.items() if text.count("\n") > 400}
    assert not long


def test_the_page_says_what_every_module_of_the_machine_is_for():
    page = PAGE.read_text(encoding="utf-8").split("## Where to change a thing")[1]
    machine = ("_ensemble.", "_fused.", "_store.", "runs.")
    paths = {name.replace(".", "/") + ".py" for name in SOURCES if name.startswith(machine)}
    paths -= {
        f"{name.replace('.', '/')}.py"
        for name in SOURCES
        if (ROOT / name.replace(".", "/")).is_dir()
    }
    assert paths == set(re.findall(r"`((?:_ensemble|_fused|_store|runs)/[\w/]+\.py)`", page))


def test_imports_point_downwards():
    assert not list(violations(SOURCES, FLOORS))


def test_no_module_imports_itself_through_others():
    assert not list(cycles(SOURCES))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("manifolds", "from .noises import TokenNoise"),
        ("manifolds", "from . import plot"),
        ("manifolds", "import rqf_jax.cli"),
        ("manifolds", "from rqf_jax.runs.ensemble import run"),
        ("manifolds", "def lazily():\n    from ._ensemble.simulate import simulate"),
        ("manifolds", "from . import __version__"),
        ("laws", "from .noises import TokenNoise"),
        ("drifts.linear", "from ..noises import TokenNoise"),
        ("noises.token", "from .._sde import SDE"),
        ("_unheard_of", ""),
    ],
)
def test_an_arrow_that_points_up_or_sideways_is_found(module, text):
    assert len(list(violations(SOURCES | {module: text}, FLOORS))) == 1


def test_a_cycle_within_a_family_is_found():
    wrong = SOURCES | {"noises._abstract": "from .token import TokenNoise"}
    assert "noises.token" in set(cycles(wrong))


def modules():
    for found in pkgutil.walk_packages([str(ROOT)], "rqf_jax."):
        if found.name != "rqf_jax.__main__":
            yield importlib.import_module(found.name)


def classes():
    """Every equinox module of the package, once."""
    found = {
        value
        for module in modules()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, eqx.Module)
    }
    return sorted(
        (cls for cls in found if cls.__module__.startswith("rqf_jax")), key=lambda c: c.__qualname__
    )


def ours(cls):
    return cls.__module__.startswith("rqf_jax")


def is_abstract_or_final(cls):
    subclasses = [child for child in cls.__subclasses__() if ours(child)]
    if cls.__name__.startswith("Abstract"):
        return inspect.isabstract(cls)
    return not inspect.isabstract(cls) and not subclasses


def overridden(cls):
    """Implemented methods of our own base classes that `cls` implements again."""
    for name, value in vars(cls).items():
        if (name.startswith("__") and name != "__call__") or not callable(value):
            continue
        for base in cls.__mro__[1:]:
            original = vars(base).get(name)
            if ours(base) and original is not None:
                if not getattr(original, "__isabstractmethod__", False):
                    yield f"{cls.__name__}.{name} overrides {base.__name__}.{name}"


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_a_class_is_abstract_or_final_and_overrides_nothing_implemented(cls):
    assert is_abstract_or_final(cls)
    assert not list(overridden(cls))


def test_a_subclass_of_a_final_class_is_found():
    class Louder(rqf.noises.TokenNoise):
        def __call__(self, t, x, dw):
            return 2 * self.sigma * dw

    Louder.__module__ = "rqf_jax.noises"
    assert not is_abstract_or_final(rqf.noises.TokenNoise)
    assert list(overridden(Louder)) == ["Louder.__call__ overrides TokenNoise.__call__"]
    # Classes are remembered by their base until they are collected.
    Louder.__module__ = "tests"


def public():
    """Every public function, class and method of the package, by name."""
    for module in modules():
        if any(part.startswith("_") for part in module.__name__.split(".")):
            if module.__name__.split(".")[1] in vars(rqf):
                continue
        yield module.__name__, module
        for name, value in vars(module).items():
            if name.startswith("_") or not callable(value):
                continue
            if not getattr(value, "__module__", "").startswith("rqf_jax"):
                continue
            yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for method, body in vars(value).items():
                    if inspect.isfunction(body) and not method.startswith("_"):
                        yield f"{module.__name__}.{name}.{method}", body


def test_every_public_name_has_a_docstring_of_its_own():
    names = dict(public())
    assert {"rqf_jax.laws.Uniform", "rqf_jax.manifolds.Sphere.retract"} < names.keys()
    assert not [name for name, value in names.items() if not (value.__doc__ or "").strip()]


HEAVY = ["matplotlib", "xarray", "zarr", "pydantic", "typer", "rich", "pandas", "scipy.stats"]
IMPORT = f"""
import json, sys, time
import jax
start = time.perf_counter()
import rqf_jax
seconds = time.perf_counter() - start
print(json.dumps([[name for name in {HEAVY} if name in sys.modules], seconds]))
"""


@pytest.fixture(scope="module")
def fresh_import():
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_the_package_imports_no_figures_files_or_tables(fresh_import):
    assert fresh_import[0] == []


@pytest.mark.slow
def test_importing_the_package_adds_at_most_a_second_and_a_half_to_jax(fresh_import):
    assert fresh_import[1] < 1.5


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_the_mathematics_reads_no_file_prints_nothing_and_knows_no_clock(module):
    if module.split(".")[0] in NO_MATHEMATICS or module == "_ensemble.program":
        pytest.skip("not mathematics")
    tree = nodes(SOURCES[module])
    called = {ast.unparse(node.func) for node in tree if isinstance(node, ast.Call)}
    assert not called & {"print", "open", "input", "jax.debug.print", "np.load", "np.save"}
    names = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    # The gate asks how much memory there is, to refuse arrays that cannot fit.
    known = {"os"} if module in ("_arguments.rules", "_arguments.sizes") else set()
    assert not (names - known) & {"time", "datetime", "os", "pathlib", "sys", "logging"}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(ROOT.rglob("*")) if path.suffix in {".py", ""} and path.is_file()],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_file_of_the_package_names_a_machine_or_a_package_index(path):
    text = path.read_text(encoding="utf-8")
    # An absolute path of at least two parts, at the start of a word.
    assert not re.findall(r"(?:^|(?<=[\s\"'`(=]))/[a-z]\w*/\w+", text)
    assert not re.findall(r"\w+#\d+|(?i:\bissue \d+)|(?i:index-url|/simple/|pypi)", text)


def undefined(text):
    """Names that a module reads and nobody gave it; strings, like shapes of arrays, are none."""
    known = set(dir(builtins)) | {"__file__", "__name__", "__path__"}
    for node in nodes(text):
        match node:
            case ast.Import() | ast.ImportFrom():
                known |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            case ast.FunctionDef() | ast.ClassDef():
                known.add(node.name)
            case ast.arg():
                known.add(node.arg)
            case ast.ExceptHandler() | ast.MatchAs() if node.name:
                known.add(node.name)
            case ast.Name(ctx=ast.Store()):
                known.add(node.id)
    return {node.id for node in nodes(text) if isinstance(node, ast.Name)} - known


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_every_name_that_a_module_reads_is_defined(module):
    assert not undefined(SOURCES[module])


def test_a_name_that_nobody_defined_is_found():
    text = "from .a import b\n\ndef f(x: 'shape') -> 'n':\n    return b(x) + integer(x)"
    assert undefined(text) == {"integer"}
