"""What the speed benchmarks count as CPU time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from side_by_side import take_turns

WORK = """
import sys, time
for line in sys.stdin:
    until = time.process_time() + float(line)
    while time.process_time() < until:
        pass
    print(flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the benchmarks are for Linux and macOS")
def test_the_cpu_time_of_a_child_that_lives_on_counts():
    words, pipe = [sys.executable, "-c", WORK], subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as child:

        def in_the_child(_: int) -> float:
            child.stdin.write("0.2\n")
            child.stdin.flush()
            child.stdout.readline()
            return 1.0

        def here(_: int) -> float:
            until = time.process_time() + 0.2
            while time.process_time() < until:
                pass
            return 1.0

        rates = take_turns({"child": in_the_child, "here": here, "nothing": lambda _: 1.0}, 2)
        child.stdin.close()
    assert rates["child"].cpu == pytest.approx((5, 5), rel=0.15)
    assert rates["here"].cpu == pytest.approx((5, 5), rel=0.15)
    assert min(rates["nothing"].cpu) > 100
