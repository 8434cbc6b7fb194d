"""A decoder that crashes, hangs or takes all memory costs its slide: the process that reads it and the others go on."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from faulty_decoders import SOUND, with_faults

from stainda.errors import SlideError, UnexpectedError
from stainda.slides import contained, open_slide
from stainda.slides.reading_process import Decoders


@pytest.fixture
def slides(tmp_path, monkeypatch):
    """Paths of slides by name; those called after a fault have it when they are opened, or read at a place."""
    monkeypatch.setattr(contained, "_child", contained._Child())
    looked = with_faults(monkeypatch, tmp_path / "hooks")
    yield lambda name: picture(tmp_path / f"{name}.tif", sum(name.encode())), looked
    contained._child.stop()


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (96, 128, 3), np.uint8)


def picture(path, number):
    tifffile.imwrite(path, pixels(number), tile=(32, 32), photometric="rgb", compression="zlib")
    return path


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("SIGSEGV", r"its decoder crashed \(SIGSEGV\)"),
        ("SIGABRT", r"its decoder crashed \(SIGABRT\)"),
        ("exit", r"its decoder crashed \(exit status 3\)"),
        ("hang", r"its decoder took longer than 2 s and was stopped"),
        ("memory", r"its decoder needs more than 1 GB of memory"),
    ],
)
@pytest.mark.parametrize("when", ["opened", "read"])
def test_a_faulty_decoder_costs_its_slide_alone(fault, when, reason, slides, monkeypatch):
    make, looked = slides
    monkeypatch.setattr(contained, "MEMORY", 1 << 30)
    monkeypatch.setattr(contained, "SECONDS", 2.0 if fault == "hang" else 60.0)
    good, bad = make("good"), make(f"{fault} {when}")
    with open_slide(good) as slide:
        for _ in range(2):
            with pytest.raises(SlideError, match=reason) as caught, open_slide(bad) as other:
                other.read(0, 0, 32, 32)
            assert caught.value.file == bad and caught.value.remedy
        assert (slide.read(0, 0, 128, 96) == pixels(sum(b"good"))).all(), "opened before the other one, and read after"
    times = 1 if fault == "hang" else 2  # what ended the process is tried in a fresh one
    assert looked(bad) == times, "what is known is not tried again"


def test_a_slide_is_not_blamed_for_what_another_one_broke(slides):
    make, _ = slides
    with open_slide(make("late read")) as broken, open_slide(make("good")) as slide:
        assert (broken.read(0, 0, 8, 8) == pixels(sum(b"late read"))[:8, :8]).all()
        assert (slide.read(0, 0, 128, 96) == pixels(sum(b"good"))).all()  # ends the process once


def test_a_slide_that_is_copied_again_is_tried_again(slides):
    make, _ = slides
    path = make("SIGSEGV opened")
    with pytest.raises(SlideError, match="SIGSEGV"):
        open_slide(path)
    os.utime(path, (SOUND, SOUND))
    with open_slide(path) as slide:
        assert slide.size == (128, 96)


def test_pixels_and_errors_are_those_of_decoding_here(slides, monkeypatch):
    make, _ = slides
    path = make("good")
    answers = []
    for here in ("0", "1"):
        monkeypatch.setenv("STAINDA_DECODE_HERE", here)
        with open_slide(path, mpp=0.5) as slide:
            read = [slide.read(5, 7, 60, 40), slide.read(-9, 90, 40, 40), slide.thumbnail(50)[0]]
            about = (slide.size, slide.levels, slide.mpp, slide.bounds, slide.backend, slide.notes)
        path.with_name("text.tif").write_text("no slide")
        with pytest.raises(SlideError) as caught:
            open_slide(path.with_name("text.tif"))
        answers.append((about, str(caught.value), [image.tolist() for image in read]))
        assert all(image.flags.writeable for image in read)
    assert answers[0] == answers[1]


def test_a_large_region_is_read_in_pieces(slides, monkeypatch):
    make, _ = slides
    monkeypatch.setattr(contained, "_LARGEST", 1000)
    with open_slide(make("good")) as slide:
        assert (slide.read(3, 5, 110, 80) == pixels(sum(b"good"))[5:85, 3:113]).all()


@pytest.mark.parametrize("shared", [None, 1000, 16 << 20])
def test_pixels_are_the_same_through_memory_and_through_the_socket(shared, slides, monkeypatch, tmp_path):
    if shared is None:
        monkeypatch.setattr(contained, "_shared_memory", lambda: ([], None))
    else:
        monkeypatch.setattr(contained, "_SHARED", shared)
    path = tmp_path / "jpeg.tif"
    options = {"tile": (32, 32), "photometric": "rgb", "compression": "jpeg"}
    tifffile.imwrite(path, pixels(3), **options)
    with open_slide(path) as slide:
        read = [slide.read(*region) for region in REGIONS]
        assert (contained._child._shared is not None) == (shared is not None and sys.platform == "linux")
    monkeypatch.setenv("STAINDA_DECODE_HERE", "1")
    with open_slide(path) as slide:
        assert all((image == slide.read(*region)).all() for image, region in zip(read, REGIONS, strict=True))


REGIONS = [(0, 0, 32, 32), (3, 5, 100, 70), (32, 32, 32, 32), (0, 0, 128, 96), (7, 7, 4, 4), (64, 0, 32, 32)]


@pytest.mark.skipif(sys.platform != "linux", reason="memory that is shared through a file without a name: Linux")
def test_shared_memory_cannot_be_taken_away_by_the_process_that_decodes():
    (handle,), memory = contained._shared_memory()
    for size in (0, len(memory) * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(handle, size)
    with pytest.raises(TypeError):
        memory[0] = 1
    os.close(handle)


def test_threads_and_forks_read_the_same(slides):
    make, _ = slides
    names = ["good", "better", "best"]
    with ThreadPoolExecutor(3) as pool:
        opened = [open_slide(make(name)) for name in names]
        read = pool.map(lambda at: opened[at % 3].read(at, at, 20, 20), range(60))
        for at, image in enumerate(read):
            assert (image == pixels(sum(names[at % 3].encode()))[at : at + 20, at : at + 20]).all()
    before = contained._child._process.pid
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def fork():
        image = opened[0].read(0, 0, 128, 96)
        answers.put((bool((image == pixels(sum(b"good"))).all()), contained._child._process.pid))
        contained._child.stop()

    child = context.Process(target=fork)
    child.start()
    same, its_own = answers.get()
    child.join()
    assert same and its_own != before
    assert (opened[1].read(0, 0, 8, 8) == pixels(sum(b"better"))[:8, :8]).all()


def test_a_slide_is_closed_with_the_next_request(slides):
    make, _ = slides
    kept = open_slide(make("good"))
    with open_slide(make("better")) as slide:
        number = slide._backend._number
    assert number in contained._child.forgotten
    lost = open_slide(make("best"))  # that nobody closes
    number = lost._backend._number
    del lost
    assert number in contained._child.forgotten
    kept.read(0, 0, 8, 8)
    assert not contained._child.forgotten


def test_the_process_closes_what_is_no_longer_needed(slides):
    make, _ = slides
    decoders = Decoders()
    request = {"number": 1, "path": str(make("good")), "region": (0, 0, 0, 8, 8), "close": []}
    assert decoders.answer(request)[0] == {"pixels": 192}
    closed = []
    decoders._open[1].close = lambda: closed.append(1)
    answer, _ = decoders.answer({**request, "number": 2, "region": None, "close": [1, 7]})
    assert closed == [1] and answer["slide"]["sizes"] == ((128, 96),)


def test_it_ends_with_the_process_that_started_it(tmp_path):
    code = (
        "import sys; from stainda.slides import contained, open_slide; slide = open_slide(sys.argv[1]);"
        "print(contained._child._process.pid, flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(picture(tmp_path / "a.tif", 1))]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    number = int(process.stdout.readline())
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while alive(number) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(number)


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_no_module_of_the_working_directory_is_imported(slides, tmp_path, monkeypatch):
    make, _ = slides
    path = make("good")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tifffile.py").write_text("import pathlib; pathlib.Path('touched').touch()")
    with open_slide(path.name) as slide:
        assert (slide.read(0, 0, 128, 96) == pixels(sum(b"good"))).all()
    assert not (tmp_path / "touched").exists()


def test_a_process_that_does_not_start_is_no_fault_of_the_slide(slides, monkeypatch):
    make, _ = slides
    monkeypatch.setattr(contained, "_COMMAND", (sys.executable, "-c", "raise SystemExit(4)"))
    with pytest.raises(UnexpectedError, match=r"does not start \(exit status 4\).*STAINDA_DECODE_HERE=1"):
        open_slide(make("good"))
