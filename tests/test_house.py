"""The house: a room imports only from rooms on lower floors, and start-up stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from startup_cases import COMMANDS, HEAVY, environment, imported, make_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stainda"

FLOORS = {
    "cli": 6, "api": 6,
    "study": 5,
    "report": 4, "review": 4, "prediction": 4, "training": 4,
    "strategies": 3, "registration": 3, "patches": 3, "phantom": 3, "evaluation": 3, "datasets": 3,
    "run_directory": 2, "cohort": 2, "annotations": 2, "models": 2,
    "terminal": 1, "notebook": 1, "config": 1, "slides": 1, "stains": 1, "objects": 1,
    "errors": 0, "files": 0, "names": 0, "randomness": 0, "progress": 0,
}  # fmt: skip


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("stainda.")}


@pytest.mark.parametrize(
    "room", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_")
)
def test_a_room_imports_only_from_below(room):
    assert room in FLOORS, f"{room} is no room of the house"
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for other in _imports(path) - {room, "__version__"}:
            below = FLOORS[other] < FLOORS[room] or FLOORS[room] == FLOORS[other] == 0
            assert below, f"{path.relative_to(ROOT)} imports {other}"


@pytest.mark.parametrize(
    "module", ["stainda", "stainda.cli.app", "stainda.study", "stainda.stains", "stainda.models", "stainda.report"]
)
def test_importing_a_front_door_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted({set(HEAVY)} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert out.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("startup")
    make_files(folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.words or "nothing")
def test_a_command_imports_only_what_it_needs(command, small_files):
    ends, packages, said = imported(command.words, small_files)
    assert ends == command.ends, said
    assert packages <= set(command.may.split()), f"stainda {command.words} imports what it does not need"


def test_report_and_evaluation_work_without_torch():
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'torch':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import stainda.report, stainda.evaluation\n"
        "from stainda.report import make_report\n"
        "from stainda.evaluation import analyse\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_every_command_has_help_with_an_example():
    from typer.testing import CliRunner

    from stainda.cli.app import app

    runner = CliRunner()
    listed = [command.name or command.callback.__name__ for command in app.registered_commands]
    commands = (
        [["doctor"]] + [[name] for name in listed if name != "doctor"] + [["manifest", "check"], ["manifest", "scan"]]
    )
    for command in commands:
        result = runner.invoke(app, [*command, "--help"])
        assert result.exit_code == 0, command
        if command != ["doctor"]:
            assert "stainda" in result.output and "xample" in result.output, command
