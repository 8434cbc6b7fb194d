"""A script without the line that keeps its processes apart is reported so before anything starts."""

import subprocess
import sys

import pytest
from startup_cases import environment

CALL = 'st.run("absent.yaml")'
GUARD = 'if __name__ == "__main__":'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"import stainda as st\n{CALL}\n", "row 2: st.run starts processes"),
        (f"import stainda as st\ndef main():\n    {CALL}\nmain()\n", "row 4: st.run starts processes"),
        (f"import stainda as st\n{GUARD}\n    {CALL}\n", "there is no such file"),
        (f"import stainda as st\ndef main():\n    {CALL}\n{GUARD}\n    main()\n", "there is no such file"),
    ],
)
def test_a_call_at_the_top_of_a_script_is_refused(text, told, tmp_path):
    (tmp_path / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and told in done.stderr.replace("does not exist", "there is no such file")


def test_a_prompt_is_not_asked_for_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", f"import stainda as st\n{CALL}"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "starts processes" not in done.stderr and "absent.yaml" in done.stderr
