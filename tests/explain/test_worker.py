"""The weights that the page stores for its worker, and the networks that a page computes."""
import numpy as np
import pytest

from nphybrid import ViTHybridImageProcessor
from nphybrid.explain import scene, worker
from nphybrid.params import named_leaves

from oracles import sights

pytestmark = pytest.mark.slow


def test_weights_are_stored_within_half_a_step(model):
    p = model.learned()
    stored = worker.weights(p)
    exact, codes = stored["exact"], stored["codes"].astype(np.float64)
    for leaf in worker.outputs_first(p).values():
        if leaf.ndim == 1:
            assert (exact[:leaf.size] == leaf).all()
            exact = exact[leaf.size:]
            continue
        rows = leaf.reshape(len(leaf), -1)
        found = codes[:leaf.size].reshape(rows.shape) * exact[:len(leaf), None].astype(np.float64) / 32767
        assert (np.abs(found - rows).max(1) <= np.abs(rows).max(1) * (0.5 / 32767 + 1e-7)).all()
        exact, codes = exact[len(leaf):], codes[leaf.size:]
    assert exact.size == codes.size == 0


def test_outputs_come_first(model):
    p = model.learned()
    leaves = worker.outputs_first(p)
    assert list(leaves) == list(named_leaves(p))
    assert (leaves["stem.conv"][5] == p.stem.conv[..., 5]).all()
    assert (leaves["head.kernel"][3] == p.head.kernel[:, 3]).all()
    assert leaves["tokens.positions"] is p.tokens.positions


@pytest.mark.parametrize("kind", sights.KINDS)
def test_pages_of_small_networks_compute(kind):
    assert worker.obstacle(sights.network(kind)) is None


def test_other_pages_do_not_compute(model, monkeypatch):
    small = sights.network("vit")
    for processor in (dict(resample=1), dict(resample="tf-bilinear", do_rescale=False)):
        small.processor = ViTHybridImageProcessor(**processor)
        assert worker.obstacle(small)
    monkeypatch.setattr(worker, "MAX_PARAMETERS", 1_469_833)
    assert worker.obstacle(model)
    monkeypatch.undo()
    assert worker.obstacle(model) is None
    monkeypatch.setattr(scene, "EXACT_BYTES", 0)                         # the page adds attention weights up
    assert worker.obstacle(model)
