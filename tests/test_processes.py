"""Processes of stainda's own import nothing from the folder that they are called in."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from stainda.processes import command_of, how_it_ended


@pytest.mark.parametrize("python_path", ["", os.pathsep])
@pytest.mark.parametrize("flags", [(), ("-P",)])
def test_nothing_is_imported_from_the_working_directory(tmp_path, flags, python_path):
    """Though modules of the same names as libraries lie in it."""
    if flags and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no -P")
    for name in ("argparse.py", "numpy.py", "stainda.py"):
        (tmp_path / name).write_text("raise SystemExit('taken from the folder')")
    program, code, text = command_of("stainda.version")
    text = text.replace(
        "from stainda.version import main; main()",
        "import argparse, json, numpy, stainda; print(json.dumps(sys.argv[1:]))",
    )
    words = [program, *flags, code, text, "a", "b c"]
    environment = {**os.environ, "PYTHONPATH": python_path}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and json.loads(ended.stdout) == ["a", "b c"], ended.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 looks into the working directory")
def test_workers_of_a_command_import_nothing_from_the_working_directory(tmp_path):
    script, slides = tmp_path / "stainda_script.py", tmp_path / "slides"
    slides.mkdir()
    (slides / "socket.py").write_text("raise SystemExit('taken from the folder')")
    script.write_text("""
import multiprocessing, sys
from stainda.cli import main

if __name__ == "__main__":
    try:
        main()
    except SystemExit:
        pass
    worker = multiprocessing.get_context("spawn").Process(target=print, args=("works",))
    worker.start()
    worker.join()
    sys.exit(worker.exitcode)
""")
    command = [sys.executable, str(script), "--version"]
    ended = subprocess.run(command, cwd=slides, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "works" in ended.stdout, ended.stderr


def test_the_end_of_a_process_in_words():
    assert how_it_ended(-11) == "SIGSEGV" and how_it_ended(3) == "exit status 3"
    assert (
        how_it_ended(-9).startswith("SIGKILL") and "memory" in how_it_ended(-9) and how_it_ended(-200) == "signal 200"
    )
