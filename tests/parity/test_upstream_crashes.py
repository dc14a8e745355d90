"""Where transformers 4.57.6 crashes or quietly does nothing, nphybrid refuses clearly or equals a definition.

    upstream                                                     nphybrid
    a fresh classifier: AttributeError                           builds and runs
    the default configuration's forward: 197 tokens meet 577     14 x 14 cells follow from 224 pixels
    224 pixels with 24 x 24 cells stated: fails in the forward   refused, with both numbers
    interpolate_pos_encoding at another size: RuntimeError       bicubic to the true token grid
    head_mask under its default attention: does nothing          a factor on each head, as its eager attention
    output_attentions under its default attention: None          the weights, as its eager attention
    width_factor 2 with a classifier: RuntimeError               the network of twice the widths
    more hidden_sizes than depths, pre-activation: RuntimeError  the surplus is cut
    a pre-activation stem alone, hidden_sizes []: IndexError     its norm has the stem's width
    global_padding "valid" with stages: RuntimeError             refused
    hidden_act "selu", which its documentation names: KeyError   Klambauer et al. 2017, as torch's selu
    int32 labels: RuntimeError                                   as int64
    bool_masked_pos without a mask token: AttributeError         refused
    problem_type decided at the first call, kept for ever        decided per call
"""
import numpy as np
import pytest

from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridModel)
from nphybrid.testing import telling_weights, torch_twin

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch, transformers = on_demand("torch"), on_demand("transformers")
upstream = on_demand("transformers.models.deprecated.vit_hybrid.modeling_vit_hybrid")
activations, modeling_utils = on_demand("transformers.activations"), on_demand("transformers.modeling_utils")

TINY = dict(backbone_config=dict(layer_type="bottleneck", depths=[1, 1], hidden_sizes=[32, 48], embedding_size=16,
                                 num_groups=4, global_padding="SAME", embedding_dynamic_padding=True,
                                 out_features=["stage2"]),
            hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, num_labels=3)
BIT = dict(depths=[1, 1], hidden_sizes=[32, 48], embedding_size=16, num_groups=4, num_labels=3)
EXACT = dict(engine="reference", dtype="float64")


def told(kind, config, seed=0, **options):
    """A model with telling weights in float64."""
    state = telling_weights(kind(config, engine="reference", **options), seed)
    return kind(config, state_dict=state, **EXACT, **options)


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def run(network, x, **inputs):
    with torch.inference_mode():
        return network(torch.from_numpy(x), **inputs)


def close(a, b):
    """Whether max|a - b| <= 1e-9 max|b|, arrays or tensors.  Observed: 1.2e-15"""
    a, b = (x.numpy() if torch.is_tensor(x) else x for x in (a, b))
    return np.abs(a - b).max() <= 1e-9 * np.abs(b).max()


def test_fresh_classifier():
    config = ViTHybridConfig(**TINY, image_size=32)
    with pytest.raises(AttributeError, match="NoneType"):
        upstream.ViTHybridForImageClassification(transformers.ViTHybridConfig(**config.to_dict()))
    assert ViTHybridForImageClassification(config, **EXACT)(pixels(1, 3, 32, 32)).logits.shape == (1, 3)


def test_default_configuration_runs():
    small = dict(TINY, backbone_config=dict(TINY["backbone_config"], depths=[1, 1, 1], hidden_sizes=[32, 48, 1024],
                                            out_features=["stage3"]))
    with modeling_utils.no_init_weights():
        network = upstream.ViTHybridModel(transformers.ViTHybridConfig(**small))
    with pytest.raises(RuntimeError, match="197.*577|577.*197"):
        run(network, pixels(1, 3, 224, 224).astype(np.float32))
    assert ViTHybridConfig().network_config().grid == (14, 14)
    model = ViTHybridModel(ViTHybridConfig(**small), engine="reference")
    assert model(pixels(1, 3, 224, 224)).last_hidden_state.shape == (1, 197, 24)


def test_contradicting_feature_map_is_refused():
    with pytest.raises(ValueError, match=r"24x24 cells.*14x14 cells"):
        ViTHybridConfig(image_size=224, backbone_featmap_shape=[1, 1024, 24, 24])


@pytest.mark.parametrize("size", [(48, 48), (96, 64), (33, 70)])
def test_other_resolution(size):
    """The definition: torch's own bicubic on the grid of positions, in a twin that is built for the new size."""
    model = told(ViTHybridForImageClassification, ViTHybridConfig(**TINY, image_size=32))
    x = pixels(2, 3, *size)
    with pytest.raises(RuntimeError):
        run(torch_twin(model, torch.float64), x, interpolate_pos_encoding=True)
    larger = ViTHybridConfig(**TINY, image_size=list(size))
    name = "vit.embeddings.position_embeddings"
    state = model.state_dict()
    grid = torch.from_numpy(state[name][:, 1:].reshape(1, 4, 4, 24)).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=larger.network_config().grid, mode="bicubic", align_corners=False)
    state[name] = np.concatenate([state[name][:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, 24).numpy()], 1)
    definition = torch_twin(ViTHybridForImageClassification(larger, state_dict=state, **EXACT), torch.float64)
    assert close(model(x, interpolate_pos_encoding=True).logits, run(definition, x).logits)
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} pixels; this model expects 32 x 32"):
        model(x)


@pytest.mark.parametrize("mask", [[1, 0, 0.5], [[1, 0, 0.5], [0, 1, 1]]], ids=["heads", "layers and heads"])
def test_head_mask_and_attentions_always_work(mask):
    model, x = told(ViTHybridForImageClassification, ViTHybridConfig(**TINY, image_size=32)), pixels(2, 3, 32, 32)
    tensor = torch.tensor(mask, dtype=torch.float64)
    plain = run(torch_twin(model, torch.float64, "sdpa"), x, output_attentions=True)
    masked = run(torch_twin(model, torch.float64, "sdpa"), x, head_mask=tensor)
    assert plain.attentions == (None, None) and close(plain.logits, masked.logits), "upstream's SDPA learned its flags"
    eager = run(torch_twin(model, torch.float64, "eager"), x, head_mask=tensor, output_attentions=True)
    ours = model(x, head_mask=mask, output_attentions=True)
    assert close(ours.logits, eager.logits) and not close(ours.logits, plain.logits)
    assert all(close(a, b) for a, b in zip(ours.attentions, eager.attentions, strict=True))


def test_width_factor():
    model, x = told(BitForImageClassification, BitConfig(**BIT, width_factor=2)), pixels(1, 3, 40, 40)
    with pytest.raises(RuntimeError), modeling_utils.no_init_weights():
        run(transformers.BitForImageClassification(transformers.BitConfig(**BIT, width_factor=2)), x.astype(np.float32))
    wide = BitConfig(**{**BIT, "hidden_sizes": [64, 96]})
    wide = BitForImageClassification(wide, state_dict=model.state_dict(), **EXACT)
    assert close(model(x).logits, run(torch_twin(wide, torch.float64), x).logits)


def test_surplus_hidden_sizes_are_cut():
    surplus, x = {**BIT, "hidden_sizes": [32, 48, 64]}, pixels(1, 3, 40, 40)
    with pytest.raises(RuntimeError), modeling_utils.no_init_weights():
        run(transformers.BitForImageClassification(transformers.BitConfig(**surplus)), x.astype(np.float32))
    model = told(BitForImageClassification, BitConfig(**surplus))
    cut = BitForImageClassification(BitConfig(**BIT), state_dict=model.state_dict(), **EXACT)
    assert close(model(x).logits, run(torch_twin(cut, torch.float64), x).logits)


def test_preactivation_stem_alone():
    alone, x = {**BIT, "depths": [], "hidden_sizes": []}, pixels(1, 3, 40, 40)
    with pytest.raises(IndexError):
        transformers.BitForImageClassification(transformers.BitConfig(**alone))
    model = told(BitForImageClassification, BitConfig(**alone))
    stated = BitConfig(**{**alone, "hidden_sizes": [16]})
    stated = BitForImageClassification(stated, state_dict=model.state_dict(), **EXACT)
    assert close(model(x).logits, run(torch_twin(stated, torch.float64), x).logits)


def test_valid_padding():
    with pytest.raises(RuntimeError), modeling_utils.no_init_weights():
        network = transformers.BitForImageClassification(transformers.BitConfig(**BIT, global_padding="valid"))
        run(network, pixels(1, 3, 64, 64).astype(np.float32))
    with pytest.raises(ValueError, match="VALID"):
        BitConfig(**BIT, global_padding="valid")
    model, x = told(BitBackbone, BitConfig(depths=[], hidden_sizes=[16], embedding_size=16, num_groups=4,
                                           global_padding="valid", layer_type="bottleneck")), pixels(1, 3, 45, 50)
    theirs = run(torch_twin(model, torch.float64), x).feature_maps[0]
    assert close(model(x).feature_maps[0], theirs)


def test_selu(monkeypatch):
    model, x = told(BitForImageClassification, BitConfig(**BIT, hidden_act="selu")), pixels(1, 3, 40, 40)
    with pytest.raises(KeyError):
        torch_twin(model)
    monkeypatch.setitem(activations.ACT2CLS, "selu", torch.nn.SELU)
    monkeypatch.setitem(upstream.ACT2FN, "selu", torch.nn.SELU)
    assert close(model(x).logits, run(torch_twin(model, torch.float64), x).logits)


def test_int32_labels():
    model, x = told(ViTHybridForImageClassification, ViTHybridConfig(**TINY, image_size=32)), pixels(2, 3, 32, 32)
    with pytest.raises(RuntimeError):
        run(torch_twin(model, torch.float64), x, labels=torch.tensor([0, 2], dtype=torch.int32))
    theirs = run(torch_twin(model, torch.float64), x, labels=torch.tensor([0, 2])).loss
    assert close(model(x, labels=np.array([0, 2], np.int32)).loss, theirs)
    assert close(model(x, labels=[0, 2]).loss, theirs)


def test_masked_patches_without_mask_token():
    model, x = told(ViTHybridModel, ViTHybridConfig(**TINY, image_size=32)), pixels(1, 3, 32, 32)
    mask = np.zeros((1, 16), bool)
    with pytest.raises(AttributeError):
        run(torch_twin(model, torch.float64), x, bool_masked_pos=torch.from_numpy(mask))
    with pytest.raises(ValueError, match="use_mask_token=True"):
        model(x, bool_masked_pos=mask)


def test_problem_type_is_decided_per_call():
    model, x = told(ViTHybridForImageClassification, ViTHybridConfig(**TINY, image_size=32)), pixels(2, 3, 32, 32)
    peer, many = torch_twin(model, torch.float64), np.array([[0., 1, 1], [1, 0, 0]])
    run(peer, x, labels=torch.tensor([0, 2]))
    with pytest.raises((RuntimeError, ValueError)):
        run(peer, x, labels=torch.from_numpy(many))
    model(x, labels=[0, 2])
    assert model.config.problem_type is None
    theirs = run(torch_twin(model, torch.float64), x, labels=torch.from_numpy(many))
    assert close(model(x, labels=many).loss, theirs.loss)
