"""Configurations and plans against transformers' own."""
import inspect
import json

import pytest

from nphybrid import BitConfig, ViTHybridConfig
from nphybrid.config import feature_size, plan

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch, transformers = on_demand("torch"), on_demand("transformers")
hybrid = on_demand("transformers.models.deprecated.vit_hybrid.configuration_vit_hybrid")

# Our class, and the module and name of the original.
KINDS = {"bit": (BitConfig, transformers, "BitConfig"), "hybrid": (ViTHybridConfig, hybrid, "ViTHybridConfig")}

BITS = [
    dict(), dict(num_channels=1, embedding_size=8, hidden_sizes=[16, 24], depths=[1, 2], num_groups=4),
    dict(layer_type="bottleneck", global_padding="same", embedding_dynamic_padding=True, depths=[3, 4, 9]),
    dict(out_features=["stem", "stage2"]), dict(out_indices=[1, 3]), dict(depths=[1, 1]),
    dict(depths=[], hidden_sizes=[], out_features=["stem"]), dict(global_padding="valid", depths=[]),
    dict(num_labels=7), dict(id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2}),
    dict(output_stride=8, hidden_act="silu", problem_type="regression", output_hidden_states=True, note=5),
]
HYBRIDS = [
    dict(image_size=384),
    dict(image_size=64, backbone_featmap_shape=[1, 1024, 4, 4], hidden_size=32, patch_size=2,
         num_attention_heads=4, num_hidden_layers=2, intermediate_size=37, qkv_bias=False),
    dict(image_size=384, num_labels=3, layer_norm_eps=1e-6, hidden_act="gelu_new", output_attentions=True),
    dict(image_size=224, backbone_featmap_shape=[1, 512, 28, 28], backbone_config=dict(
        model_type="bit", depths=[1, 1], layer_type="bottleneck", global_padding="same",
        embedding_dynamic_padding=True)),
]
CASES = [("bit", given) for given in BITS] + [("hybrid", given) for given in HYBRIDS]


@pytest.fixture
def ours(kind):
    """Our class of a kind of configuration."""
    return KINDS[kind][0]


@pytest.fixture
def theirs(kind):
    """The class of transformers."""
    _, module, name = KINDS[kind]
    return getattr(module, name)


def written(config):
    """Every key of upstream's configuration, as it stands in JSON."""
    return json.loads(config.to_json_string(use_diff=False))


def shared(ours, theirs):
    """Both configurations cut to the keys that we write."""
    theirs = {key: theirs[key] for key in ours if key in theirs}
    if isinstance(theirs.get("backbone_config"), dict):
        theirs["backbone_config"] = shared(ours["backbone_config"], theirs["backbone_config"])
    return theirs


@pytest.mark.parametrize("kind", KINDS)
def test_the_signature_is_upstreams(ours, theirs):
    def arguments(kind):
        return {name: p.default for name, p in inspect.signature(kind.__init__).parameters.items()
                if p.kind != p.VAR_KEYWORD}
    assert list(arguments(ours)) == list(arguments(theirs))
    for name, default in arguments(theirs).items():
        if name != "backbone_featmap_shape":  # upstream's default fits 384 pixels, not its 224
            mine = arguments(ours)[name]
            assert (list(mine) if isinstance(mine, tuple) else mine) == default, name


@pytest.mark.parametrize("kind, given", CASES, ids=range(len(CASES)))
def test_every_key_we_write_has_upstreams_value(ours, theirs, given):
    mine, other = ours(**given).to_dict(), written(theirs(**given))
    assert set(mine) <= set(other)
    assert mine == shared(mine, other)


def test_a_negative_index_is_counted_from_the_front():
    """Upstream keeps it as it is."""
    assert transformers.BitConfig(out_indices=[-1]).out_indices == [-1]
    assert BitConfig(out_indices=[-1]).out_indices == [4]
    assert BitConfig(out_indices=[-1]).out_features == transformers.BitConfig(out_indices=[-1]).out_features


@pytest.mark.parametrize("kind, given", CASES, ids=range(len(CASES)))
def test_either_reads_what_the_other_writes(ours, theirs, given, tmp_path):
    theirs(**given).save_pretrained(tmp_path / "theirs")
    ours(**given).save_pretrained(tmp_path / "ours")
    assert ours.from_pretrained(tmp_path / "theirs").network_config() == ours(**given).network_config()
    back = written(theirs.from_pretrained(tmp_path / "ours"))
    mine = ours(**given).to_dict()
    assert shared(mine, back) == mine


@pytest.mark.parametrize("given", [
    dict(out_features=["stage5"]), dict(out_features=["stage2", "stage1"]),
    dict(out_features=["stem", "stem"]),
    dict(out_features="stage1"), dict(out_indices=[9]), dict(out_indices=[2, 1]),
    dict(out_features=["stage1"], out_indices=[2]), dict(out_features=["stage4"], out_indices=[9]),
    dict(layer_type="basic"), dict(global_padding="reflect"),
])
def test_what_upstream_refuses_is_refused(given):
    for kind in (BitConfig, transformers.BitConfig):
        with pytest.raises(ValueError):
            kind(**given)


@pytest.mark.parametrize("layer_type", ["bottleneck", "preactivation"])
@pytest.mark.parametrize("output_stride", [4, 8, 16, 32, 64])
def test_the_plan_is_the_one_upstream_builds(layer_type, output_stride):
    given = dict(embedding_size=8, hidden_sizes=[16, 16, 16, 16], depths=[2, 1, 3, 2], num_groups=2,
                 layer_type=layer_type, output_stride=output_stride)
    stages = transformers.BitBackbone(transformers.BitConfig(**given)).bit.encoder.stages
    theirs = [[(unit.conv2.stride[0], unit.conv2.dilation[0], unit.downsample is not None)
               for unit in stage.layers]
              for stage in stages]
    assert [[tuple(unit) for unit in stage] for stage in plan(BitConfig(**given).network_config())] == theirs


@pytest.mark.parametrize("global_padding", [None, "same"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("output_stride", [4, 32])
def test_maps_are_as_large_as_upstreams(global_padding, dynamic, output_stride):
    given = dict(embedding_size=4, hidden_sizes=[8, 8], depths=[2, 2], num_groups=2, layer_type="bottleneck",
                 global_padding=global_padding, embedding_dynamic_padding=dynamic,
                 output_stride=output_stride, out_features=["stem", "stage1", "stage2"])
    backbone = transformers.BitBackbone(transformers.BitConfig(**given)).eval()
    sizes = BitConfig(**given).network_config()
    for n, m in [(32, 33), (41, 47), (64, 95)]:
        with torch.no_grad():
            theirs = [tuple(x.shape[2:]) for x in backbone(torch.zeros(1, 3, n, m)).feature_maps]
        stages = plan(sizes)
        assert theirs == [tuple(feature_size(sizes, side, stages[:s]) for side in (n, m)) for s in range(3)]
