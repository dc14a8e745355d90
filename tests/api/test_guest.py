"""nphybrid as a guest in other people's programs: their threads, their processes, their settings, their Ctrl-C.

tests/ops/test_threads.py asks the same of a single kernel; here whole models run.
"""
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from nphybrid import ViTHybridForImageClassification, default_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 50


def script(tmp_path, code, *args, seconds=120):
    """Run a file in a process group of its own; one that hangs is killed with its children, and fails the test."""
    path = tmp_path / "guest.py"
    path.write_text(code)
    process = subprocess.Popen([sys.executable, path, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        (os.killpg if hasattr(os, "killpg") else lambda pid, _: process.kill())(process.pid, 9)
        pytest.fail(f"it hangs; it said {process.communicate()}")
    return process.returncode, out, err


# -- threads ---------------------------------------------------------------------------------------

def test_eight_threads_share_a_model():
    """Each takes the fifty pictures from another one on; every answer has the bits of the lonely run."""
    pictures = np.random.default_rng(0).standard_normal((IMAGES, 1, 3, 64, 64), np.float32)
    lonely = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=1)
    expected = [lonely(picture).logits.tobytes() for picture in pictures]
    shared, together = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2), {}
    barrier, before = threading.Barrier(8, timeout=60), sys.getswitchinterval()

    def run(t):
        barrier.wait()
        together[t] = [(i, shared(pictures[i]).logits.tobytes()) for i in np.roll(range(IMAGES), 6 * t)]
    callers = [threading.Thread(target=run, args=(t,), daemon=True) for t in range(8)]
    sys.setswitchinterval(1e-5)
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(120)
    finally:
        sys.setswitchinterval(before)
    assert sorted(together) == list(range(8)), "a thread failed or hangs"
    wrong = [(t, i) for t, answers in together.items() for i, bits in answers if bits != expected[i]]
    assert not wrong and all(len(answers) == IMAGES for answers in together.values())
    assert len(set(expected)) == IMAGES, "the pictures are told apart"


# -- processes -------------------------------------------------------------------------------------

POOL = """
import multiprocessing, sys
import numpy as np
from nphybrid import ViTHybridForImageClassification, default_model

model = None

def answer(seed):
    global model
    if model is None:                              # spawn and forkserver bring no memory along
        model = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2)
    picture = np.random.default_rng(seed).standard_normal((1, 3, 64, 64), np.float32)
    return multiprocessing.current_process().pid, model(picture).logits.tobytes()

if __name__ == "__main__":
    expected = [answer(seed)[1] for seed in range(24)]        # the parent has computed, on two threads
    with multiprocessing.get_context(sys.argv[1]).Pool(4) as pool:
        answers = pool.map_async(answer, range(24), chunksize=1).get(90)
    assert [bits for _, bits in answers] == expected, "other bits in a child"
    assert answer(0)[1] == expected[0], "other bits in the parent afterwards"
    assert len(set(expected)) == 24
    print("same bits", len({pid for pid, _ in answers}) > 1)
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_four(method, tmp_path):
    code, out, err = script(tmp_path, POOL, method)
    assert (code, out) == (0, "same bits True\n"), err


# -- settings --------------------------------------------------------------------------------------

SETTINGS = """
import decimal, faulthandler, locale, logging, os, random, signal, sys, threading, warnings
import numba, numpy as np
from PIL import Image
from nphybrid import NonFiniteError, ViTHybridForImageClassification, default_model, pipeline
from nphybrid.ops import kernels, threads

np.seterr(all="raise", under="warn")
np.seterrcall(print)
warnings.simplefilter("error")
signal.signal(signal.SIGTERM, lambda *_: None)
threading.excepthook = lambda lost: print("a thread lost", lost.exc_value)

def settings():
    return dict(
        numba_threads=numba.get_num_threads(), numba_cache=numba.config.CACHE_DIR, errstate=np.geterr(),
        errcall=np.geterrcall(), environment=dict(os.environ), filters=list(warnings.filters),
        showwarning=warnings.showwarning, hooks=(sys.excepthook, threading.excepthook, sys.unraisablehook),
        signals={s: signal.getsignal(s) for s in signal.valid_signals()}, wakeup=signal.set_wakeup_fd(-1),
        folder=os.getcwd(), handlers=list(logging.getLogger().handlers), level=logging.getLogger().level,
        largest=Image.MAX_IMAGE_PIXELS, random=(random.getstate(), str(np.random.get_state())),
        printed=np.get_printoptions(), switch=sys.getswitchinterval(), recursion=sys.getrecursionlimit(),
        locale=locale.setlocale(locale.LC_ALL), umask=(os.umask(0o22), os.umask(0o22))[1],
        trace=(sys.gettrace(), sys.getprofile(), threading.gettrace()), threads_here=threads._threads.get())

def unchanged(what, before):
    after = settings()
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert not changed, f"{what} changed {changed}"

model = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2)
good, bad = np.zeros((2, 3, 64, 64), np.float32), np.full((1, 3, 64, 64), np.nan, np.float32)
state = model.state_dict()
state["vit.encoder.layer.1.layernorm_before.weight"][:] = 3e38     # finite weights, infinite states
broken = ViTHybridForImageClassification(model.config, state_dict=state, num_threads=2)
before = settings()
model(good)
unchanged("a call", before)
pipeline("image-classification", model)(sys.argv[1])
unchanged("a pipeline", before)

def refused(call, kind, told):
    try:
        call()
    except kind as error:
        assert told in str(error), error
    else:
        raise AssertionError("no error")
    unchanged(f"a {kind.__name__} ({told})", before)

refused(lambda: model(bad), NonFiniteError, "pixel_values")
refused(lambda: model(good[0]), ValueError, "shape")
refused(lambda: broken(good), NonFiniteError, "is the first state")
conv2d, convolutions = kernels.conv2d, iter(range(100))
def failing(*args):                                                # inside an operation, in a worker
    if next(convolutions) == 2:
        both, caller = threading.Barrier(2), threading.current_thread()
        def task(i):
            both.wait(20)
            if threading.current_thread() is not caller:
                raise KeyError("inside")
        threads.run(2, task)
    return conv2d(*args)
kernels.conv2d = failing
refused(lambda: model(good), KeyError, "inside")
kernels.conv2d = conv2d
model(good)
unchanged("a call after all that", before)
print("as found")
"""


def test_settings_are_left_as_found(tmp_path):
    code, out, err = script(tmp_path, SETTINGS, str(ROOT / "examples" / "images" / "cat.png"))
    assert (code, out) == (0, "as found\n"), err


# -- Ctrl-C ----------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, threading, time, traceback
import numpy as np
from nphybrid import ViTHybridForImageClassification, default_model

model = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2)
x = np.random.default_rng(0).standard_normal((32, 3, 64, 64), np.float32)
expected = model(x).logits.tobytes()
start = time.perf_counter()
model(x)
takes, inside = time.perf_counter() - start, 0
for part in np.linspace(0.05, 0.95, 10):
    def interrupt():
        time.sleep(part * takes)
        sent.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    sent, killer = [], threading.Thread(target=interrupt)
    try:
        killer.start()
        while True:
            model(x)
    except KeyboardInterrupt as error:
        late = time.perf_counter() - sent[0]
        assert late < 2, f"{late} s"
        inside += "run_into" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    killer.join()
    assert model(x).logits.tobytes() == expected, "other bits after an interrupt"
print("inside" if inside >= 5 else f"only {inside} of 10 struck inside a call", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a signal to a thread")
def test_a_caught_interrupt_leaves_the_model_as_it_was(tmp_path):
    code, out, err = script(tmp_path, INTERRUPTED)
    assert (code, out) == (0, "inside\n"), err


LOOP = """
import numpy as np
from nphybrid import ViTHybridForImageClassification, default_model
model = ViTHybridForImageClassification.from_pretrained(default_model(), num_threads=2)
x = np.zeros((64, 3, 64, 64), np.float32)
model(x)
print("running", flush=True)
while True:
    model(x)
"""


@pytest.mark.skipif(os.name != "posix", reason="no SIGINT for another process")
@pytest.mark.parametrize("after", [0.0, 0.13, 0.4])
def test_an_interrupt_ends_a_loop_within_two_seconds(after, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "running\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(after)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(2)
    finally:
        process.kill()
    assert process.stderr.read().splitlines()[-1] == "KeyboardInterrupt" and process.returncode == -signal.SIGINT
