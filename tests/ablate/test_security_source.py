"""What the source must not hold: each rule read off the syntax trees of all that is installed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("ablate", "trainers", "reports", "studies")

PICKLES = {"trainers/tensorfile.py": "a reader that names nothing but tensors", "trainers/weights.py": "its exception"}
NETWORK = {
    "ablate/lock.py": "the host's name", "ablate/run.py": "the host's name", "ablate/start.py": "a port on 127.0.0.1",
    "ablate/doctor_stores.py": "the version of a tracking server that a person named",
    "trainers/weights.py": "published weights, on request, by their hash",
    "trainers/batch.py": "this node's address, as another of its job sees it",
    "ablate/raycluster.py": "whether a cluster's head is there", "ablate/rayslot.py": "a port for ranks to meet",
    "trainers/pool.py": "a port on 127.0.0.1", "trainers/resident.py": "the type of what listens there",
}  # fmt: skip
# Nobody passes the environment on but to a process of ours; each reads a name, or sets one.
ENVIRONMENT = {
    "ablate/executor.py", "ablate/failpoints.py", "ablate/machine.py", "ablate/mlflow_store.py",
    "ablate/optuna_storage.py", "ablate/doctor_stores.py", "ablate/postgresql.py",
    "ablate/raycluster.py", "ablate/rayplaces.py", "ablate/rayslot.py", "ablate/slurmcommands.py",
    "ablate/readers/sources.py", "ablate/start.py", "trainers/entry.py",
    "trainers/batch.py", "trainers/elastic.py", "trainers/lastwords.py", "trainers/pool.py", "trainers/pristine.py",
    "trainers/ranks.py", "trainers/resident.py", "trainers/watchdog.py", "trainers/ways.py", "trainers/weightfiles.py",
}  # fmt: skip


@cache
def sources() -> dict[str, ast.Module]:
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: where (`file:line`), what is called in words (`np.load`), the node."""
    for file, tree in sources().items():
        yield from _calls(file, tree)


@cache
def _calls(file: str, tree: ast.Module) -> list[tuple[str, str, ast.Call]]:
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [(f"{file}:{node.lineno}", ast.unparse(node.func), node) for node in found]


def option(call: ast.Call, name: str) -> object:
    """The constant that an option is given, or None."""
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def called(wanted: Callable[[str, ast.Call], bool]) -> list[str]:
    return [f"{place} {name}" for place, name, call in calls() if wanted(name, call)]


def imported(*modules: str) -> set[str]:
    """Files that import one of the modules, or something from it."""
    found = set()
    for file, tree in sources().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in modules or name in modules for name in names):
                found.add(file)
    return found


def test_the_scan_sees_the_source():
    assert len(sources()) > 120 and len(list(calls())) > 3000
    assert called(lambda name, _: name == "torch.load") and called(lambda name, _: name == "np.load")


def test_yaml_is_parsed_by_the_safe_parser_alone():
    allowed = {"yaml.parse", "yaml.dump"}
    assert not called(lambda name, _: name.startswith("yaml.") and name not in allowed)
    assert not called(lambda name, call: name == "yaml.parse" and ast.unparse(call.keywords[0].value) != "_LOADER")
    text = (ROOT / "ablate/yamlfile.py").read_text()
    assert '_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)' in text and "(yaml.SafeDumper)" in text


def test_torch_loads_weights_only():
    assert not called(lambda name, call: name.endswith("torch.load") and option(call, "weights_only") is not True)


def test_numpy_never_unpickles():
    assert not called(lambda name, call: option(call, "allow_pickle") not in (None, False))
    assert not called(lambda name, _: name.split(".")[-1] in ("fromfile", "read_pickle", "to_pickle"))


def test_nothing_else_unpickles():
    assert imported("pickle") <= set(PICKLES)
    assert not imported("marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "copyreg")
    assert not called(lambda name, _: name in ("pickle.load", "pickle.loads", "pickle.Unpickler"))


def test_commands_are_lists_and_no_shell_reads_them():
    assert not called(lambda name, call: option(call, "shell") is not None)
    shells = ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn")
    assert not called(lambda name, _: name in shells)
    text = ("subprocess.Popen", "subprocess.run", "subprocess.check_output")
    assert not called(lambda name, call: name in text and isinstance(call.args[0], ast.Constant | ast.JoinedStr))


def test_no_text_becomes_code():
    found = called(lambda name, _: name in ("eval", "exec", "compile", "__import__", "execfile", "runpy.run_path"))
    assert [place for place in found if not place.startswith("trainers/launcher.py")] == []  # modules of a fixed list


def test_images_are_opened_by_a_named_driver_and_by_nothing_else():
    opened = [call for _, name, call in calls() if name == "rasterio.open" and len(call.args) == 1]  # to read
    named = [call for call in opened if any(keyword.arg == "driver" for keyword in call.keywords)]
    assert opened and len(named) == len(opened)
    assert not imported("cv2", "imageio", "tifffile", "osgeo", "fiona")
    assert not called(lambda name, _: name in ("Image.open", "PIL.Image.open", "plt.imread", "read_image"))


def test_the_network_is_touched_in_seven_known_files():
    modules = ("socket", "requests", "urllib3", "aiohttp", "httpx", "ftplib", "smtplib", "http", "urllib.request")
    assert imported(*modules) <= set(NETWORK)
    assert not [file for file in sources() if "0.0.0.0" in (ROOT / file).read_text()]


def test_the_environment_is_read_by_name_in_known_files():
    readers = {file for file, tree in sources().items() for node in ast.walk(tree)
               if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")}  # fmt: skip
    assert readers <= ENVIRONMENT
    assert not called(lambda name, call: name in ("dict", "str", "repr", "print", "json.dumps", "log.info")
                      and any(ast.unparse(given).startswith("os.environ") for given in call.args))  # fmt: skip


def test_temporary_names_are_never_guessed():
    assert not called(lambda name, _: name in ("tempfile.mktemp", "os.tempnam", "os.tmpnam"))
    assert not called(lambda name, call: name in ("os.chmod", "os.fchmod") or name.endswith(".chmod"))


def test_archives_are_never_unpacked_onto_the_disk():
    assert not called(lambda name, _: name.split(".")[-1] in ("extractall", "extract", "unpack_archive"))


def test_commands_print_through_say_which_spells_out_what_would_command_a_terminal():
    files = [file for file in sources() if file.startswith("ablate/") and file.endswith("cli.py")]
    assert len(files) >= 2
    assert not [place for place, name, _ in calls() if name == "print" and place.split(":")[0] in files]


@pytest.mark.parametrize("line", [
    "torch.load(path)", "np.load(path, allow_pickle=True)", "subprocess.run('ls', shell=True)", "pickle.loads(data)",
    "yaml.load(text)", "eval(text)", "rasterio.open(path)",
])  # fmt: skip
def test_each_rule_would_see_its_breach(line, monkeypatch):
    good, breach = ast.parse("import rasterio\nrasterio.open(path, driver=kind)"), ast.parse(line)
    monkeypatch.setattr(f"{__name__}.sources", lambda: {"ablate/good.py": good, "ablate/breach.py": breach})
    rules = (test_yaml_is_parsed_by_the_safe_parser_alone, test_torch_loads_weights_only, test_numpy_never_unpickles,
             test_commands_are_lists_and_no_shell_reads_them, test_no_text_becomes_code, test_nothing_else_unpickles,
             test_images_are_opened_by_a_named_driver_and_by_nothing_else)  # fmt: skip
    broken = 0
    for rule in rules:
        try:
            rule()
        except AssertionError:
            broken += 1
    assert broken == 1
