"""`kill -9` in the middle of `nphybrid convert`: the target is absent, old, or complete, and the next run tidies up."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification
from nphybrid.tensorfile import read, write_h5

pytestmark = pytest.mark.slow

KILLS = 50

# The parent imports what a conversion needs, and forks a warm child for each.
KILLER = """
import json, os, random, signal, sys, time
from nphybrid import tensorfile
from nphybrid.__main__ import main
from nphybrid.tensorfile import read_h5
source, target, old, kills = sys.argv[1:5]

def conversion():
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main(["convert", source, target]))
    return pid

def strays():
    return {name for name in os.listdir(os.path.dirname(target)) if name.endswith(".tmp")}

def contents():
    return open(target, "rb").read() if os.path.exists(target) else None

def running(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

read_h5(old)
os.waitpid(conversion(), 0)
started = time.perf_counter()
assert os.waitpid(conversion(), 0)[1] == 0
whole, seconds, rng, ends = open(target, "rb").read(), time.perf_counter() - started, random.Random(0), []
for kill in range(int(kills)):
    if os.path.exists(target):
        os.remove(target)
    if kill % 2:
        os.link(old, target)
    before, waste, delay = contents(), strays(), seconds * rng.random()
    pid = conversion()
    # A third fall anywhere, a third behind the first byte of the new file, a third once it took the target's place.
    moment = ("anywhere", "written", "replaced")[kill // 2 % 3]
    while moment == "written" and not strays() - waste and running(pid):
        pass
    while moment == "replaced" and contents() in (None, before) and running(pid):
        pass
    delay *= {"anywhere": 1, "written": 0.1, "replaced": 0}[moment]
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    now = contents()
    end = "complete" if now == whole else "as before" if now == before else "broken"
    ends.append([moment, end, len(strays() - waste)])
assert os.waitpid(conversion(), 0)[1] == 0
print(json.dumps([ends, sorted(strays())]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL, fork and waitid")
def test_fifty_killed_conversions(tmp_path):
    config = ViTHybridConfig(
        backbone_config=dict(layer_type="bottleneck", depths=[1], hidden_sizes=[16], embedding_size=8, num_groups=2,
                             global_padding="same", embedding_dynamic_padding=True, out_features=["stage1"]),
        image_size=16, patch_size=2, hidden_size=64, num_hidden_layers=4, num_attention_heads=2, intermediate_size=512)
    ViTHybridForImageClassification(config, engine="reference").save_pretrained(tmp_path / "source")
    (tmp_path / "out").mkdir()
    target, old = tmp_path / "out" / "m.h5", tmp_path / "old.h5"
    write_h5(old, {"old": np.ones(3)}, {})
    done = subprocess.run([sys.executable, "-c", KILLER, tmp_path / "source", target, old, str(KILLS)], text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    ends, strays = json.loads(done.stdout)
    told = {word: sum(end == word for _, end, _ in ends) for word in ("as before", "complete", "broken")}
    in_the_write = sum(left > 0 for _, _, left in ends)
    print(f"{len(ends)} kills: {told}, {in_the_write} of them while the new file was being written")
    assert len(ends) == KILLS and told["broken"] == 0 and told["as before"] > 5 and in_the_write > 5 and strays == []
    replaced = [end for moment, end, _ in ends if moment == "replaced"]
    assert replaced == ["complete"] * len(replaced) and len(replaced) == 16
    assert sorted(os.listdir(tmp_path / "out")) == ["m.h5"] and len(read(target)) > 50
