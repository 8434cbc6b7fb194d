"""Nothing that is read is a pickle: no such call in the package, and none while a whole study runs."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_cohorts import QUICK_STUDY, write_study

PACKAGE = Path(__file__).parents[2] / "stainda"

FORBID = """
import pickle, sys

def forbidden(read):
    def reading(*arguments, **more):
        caller = sys._getframe(1).f_code.co_filename
        if not caller.endswith("multiprocessing/spawn.py"):  # how Python hands a new process its task
            raise RuntimeError(f"pickle.load in {caller}")
        return read(*arguments, **more)
    return reading

pickle.load = forbidden(pickle.load)

def looked_up(event, arguments):  # of a class or function by pickle: also by loads and Unpickler
    if event == "pickle.find_class":
        frame, files = sys._getframe(1), []
        while frame is not None:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        if not any("/multiprocessing/" in name or "/concurrent/futures/" in name for name in files):
            raise RuntimeError(f"unpickled: {arguments} in {files[0]}")

sys.addaudithook(looked_up)
"""


def _calls():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield (
                    path.relative_to(PACKAGE),
                    node,
                    ast.unparse(node.func),
                    {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords},
                )


def test_nothing_in_the_package_unpickles():
    faults = []
    for path, node, name, keywords in _calls():
        where = f"{path}:{node.lineno}: {name}"
        if name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"):
            faults.append(where)
        if name == "torch.load" and keywords.get("weights_only") != "True":
            faults.append(where)
        if name in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
            faults.append(where)
        if name in ("pd.read_pickle", "pandas.read_pickle", "yaml.unsafe_load", "yaml.full_load"):
            faults.append(where)
        if name == "yaml.load" and keywords.get("Loader") != "_Loader":
            faults.append(where)
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("registration", ["identity", "valis"])
def test_a_whole_study_runs_where_pickles_cannot_be_read(blob_manifest, tmp_path, registration):
    if registration == "valis" and importlib.util.find_spec("valis") is None:  # to import it is to ask for weights
        pytest.skip("valis is not installed")
    (tmp_path / "sitecustomize.py").write_text(FORBID)
    text = f"study: plain\nstrategies: [source_only]\nceiling: source_only\n{QUICK_STUDY}"
    study = write_study(blob_manifest, tmp_path / "study.yaml", text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])}
    for code, refused in (
        ("import io, pickle; pickle.load(io.BytesIO(pickle.dumps(1)))", b"pickle.load in"),
        ("import pickle; pickle.loads(pickle.dumps(print))", b"unpickled"),
    ):
        assert refused in subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).stderr
    command = [sys.executable, "-c", "from stainda.cli import main; main()", "run", study, "--out", tmp_path / "run"]
    command.append(f"registration.method={registration}")
    ended = subprocess.run([*command, "--quiet"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "report" / "index.html").is_file()
