"""The inside of the blocks and of a residual unit, computed in JavaScript and compared with Python."""
import numpy as np
import pytest

from nphybrid.explain import inside, scene, unit as units
from nphybrid.model import bit, hybrid
from nphybrid.ops import reference
from nphybrid.trace import Trace

from tools.javascript import EXACT, NETWORKS, STORED, described, inside_of, network_and_picture, numbers, text

pytestmark = pytest.mark.slow


def inside_truth(x, p, config):
    """The arrays of the inside of the blocks for one picture, in float64, from their definitions."""
    trace, blocks = Trace(), range(config.blocks)
    hybrid(x, p, config, reference, trace)
    states = {name: state[0].astype(np.float64) for name, state in trace.items()}
    streams = [states["tokens"], *(states[f"blocks.{l}"] for l in blocks)]
    rms = np.zeros((config.blocks + 1, config.tokens, 3))
    for l, stream in enumerate(streams):
        rms[l, :, 0] = np.sqrt((stream ** 2).mean(1))
    for l in blocks:
        rms[l, :, 1] = np.sqrt(((states[f"blocks.{l}.out"] - streams[l]) ** 2).mean(1))
        rms[l, :, 2] = np.sqrt(((streams[l + 1] - states[f"blocks.{l}.out"]) ** 2).mean(1))
    stacked = {
        "value": [states[f"blocks.{l}.value"] for l in blocks], "before": streams[:-1],
        "hidden": [states[f"blocks.{l}.norm2"] @ p.blocks[l].fc1.kernel + p.blocks[l].fc1.bias for l in blocks],
        "activated": [states[f"blocks.{l}.fc1"] for l in blocks], "out": [block.out.kernel for block in p.blocks],
        "fc2": [block.fc2.kernel for block in p.blocks], "norm_scale": [block.norm1.scale for block in p.blocks],
        "norm_bias": [block.norm1.bias for block in p.blocks]}
    return {**{name: np.stack(parts) for name, parts in stacked.items()}, "rms": rms}


@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.blocks)])
def test_the_inside_of_the_blocks(run, model, prepared, name):
    config, p, x = network_and_picture(name, model, prepared)
    truth = inside_truth(x, p, config)
    for exact, bound in ((True, EXACT), (False, STORED)):
        found = inside_of(run, x, **described(config, p, exact))
        assert found.keys() == truth.keys()
        for part, expected in truth.items():
            assert found[part].shape == expected.shape, part
            error = np.abs(found[part] - expected).max() / (expected.std() or 1)
            assert error < bound, part                                   # observed 1.6e-5, 1.6e-3


@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.blocks)])
def test_python_has_the_same_inside(model, prepared, name):
    config, p, x = network_and_picture(name, model, prepared)
    truth, trace = inside_truth(x, p, config), Trace()
    hybrid(x, p, config, reference, trace)
    blocks, tokens = range(config.blocks), range(config.tokens)
    found = {**inside.context(trace, p, blocks), **inside.layer_norm(trace, p, blocks, tokens),
             **inside.mlp(trace, p, blocks, tokens), "rms": inside.residual(trace, config.blocks)}
    assert found.keys() == truth.keys()
    for part, expected in truth.items():
        error = np.abs(found[part] - expected).max() / (expected.std() or 1)
        assert error < 1e-5, part                                        # observed 3.1e-6


def test_the_inside_of_a_skipped_block_is_zero(run, model, prepared):
    found = inside_of(run, prepared, {"skipped": [1]}, **described(model.network_config, model.learned(), True))
    for name in ("value", "before", "hidden", "activated"):
        assert not found[name][1].any() and found[name][0].any() and found[name][2].any(), name
    assert (found["rms"][1, :, 1:] == 0).all() and (found["rms"][2, :, 1:] > 0).all()
    assert (found["rms"][1, :, 0] == found["rms"][2, :, 0]).all()


@pytest.mark.parametrize("name", ["cat", *(name for name, config in NETWORKS.items() if config.depths)])
def test_the_inside_of_a_unit(run, model, prepared, name):
    """The last unit before the tokens: its shortcut is its input, or the projected input if the stage has one unit."""
    config, p, x = network_and_picture(name, model, prepared)
    trace = Trace()
    (hybrid if config.blocks else bit)(x, p, config, reference, trace)
    used = scene.used_stages(config)
    s, u = used - 1, config.depths[used - 1] - 1
    unit, before = f"stages.{s}.{u}", f"stages.{s}.{u - 1}" if u else f"stages.{s - 1}.{config.depths[s - 1] - 1}"
    bottleneck = config.unit == "bottleneck"
    shortcut = trace[before] if u else trace[f"{unit}.{'norm_proj' if bottleneck else 'proj'}"]
    total = trace[unit][0]
    description = described(config, p, exact=True)
    description["config"]["used"] = used
    facts, arrays = run({"unit": True, "pictures": text(x.astype("<f4")), "shape": x.shape[1:], **description})
    ours = units.maps(trace, p, config)
    for part, channels in (("conv1", facts["conv1"]), ("conv2", facts["conv2"]), ("sum", facts["channels"])):
        spread = trace[f"{unit}.{part}" if part != "sum" else unit][0].var((0, 1))
        assert len(channels) == min(8, len(spread))
        assert spread[channels].min() > np.delete(spread, channels).max(initial=0) * (1 - 1e-5)
        assert channels == units.channels(ours)[part].tolist()
    of_sum = facts["channels"]
    expected = {"conv1": trace[f"{unit}.conv1"][0][:, :, facts["conv1"]], "sum": total[:, :, of_sum],
                "conv2": trace[f"{unit}.conv2"][0][:, :, facts["conv2"]], "shortcut": shortcut[0][:, :, of_sum]}
    found = {part: numbers(data).reshape(-1, *total.shape[:2]).transpose(1, 2, 0) for part, data in arrays.items()
             if part != "unit_conv1"}
    found["unit_conv1"] = numbers(arrays["unit_conv1"]).reshape(-1, *trace[f"{unit}.conv1"].shape[1:3]
                                                                ).transpose(1, 2, 0)
    for part, truth in expected.items():
        assert np.abs(found[f"unit_{part}"] - truth).max() < 1e-4 * truth.std(), part        # observed 1.1e-5
        channels = facts[part] if part in facts else of_sum
        assert (ours[part][:, :, channels] == truth).all(), part
    # The branch has no state. It and the shortcut give the sum.
    for branch, bound in ((found["unit_branch"], 1e-4), (ours["branch"][:, :, of_sum], 1e-6)):
        added = branch + expected["shortcut"]
        added = np.maximum(added, 0) if bottleneck else added
        assert np.abs(added - expected["sum"]).max() < bound * expected["sum"].std() + 1e-6
        assert branch.min() < 0 < branch.max()
