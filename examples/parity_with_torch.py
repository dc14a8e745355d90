"""How close is nphybrid to PyTorch?  Prints the parity table.  How fast: benchmark_against.py.

    pip install ".[parity]"
    python examples/parity_with_torch.py                             # the CIFAR-10 model that comes along
    python examples/parity_with_torch.py --model R50+ViT-B/16        # random weights that test something

The truth is nphybrid's reference engine in float64. error(x) = max|x - truth| / std(truth), per state of the walk.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import (BitBackbone as TorchBackbone, BitConfig as TorchBitConfig,
                          BitForImageClassification as TorchBit)
from transformers.modeling_utils import no_init_weights
from transformers.models.deprecated.vit_hybrid import modeling_vit_hybrid as upstream
from transformers.models.deprecated.vit_hybrid.configuration_vit_hybrid import ViTHybridConfig as TorchConfig

import nphybrid
from nphybrid import (BitBackbone, BitConfig, BitForImageClassification, ViTHybridConfig,
                      ViTHybridForImageClassification, ViTHybridModel)

PAIRS = {ViTHybridForImageClassification: upstream.ViTHybridForImageClassification,
         ViTHybridModel: upstream.ViTHybridModel,
         BitForImageClassification: TorchBit, BitBackbone: TorchBackbone}


def telling_weights(model, seed):
    """A state dict in which every number matters: norms 1 +- 0.3, biases 0.3, convolutions whose mean is not 0,
    queries and keys scaled so that attention is neither uniform nor one-hot."""
    rng, state = np.random.default_rng(seed), {}
    for name, array in model.state_dict().items():
        x = rng.standard_normal(array.shape, np.float32)
        fan_in = np.prod(array.shape[1:]) if array.ndim > 1 else 1
        if "norm" in name and name.endswith("weight"):
            x = 1 + 0.3 * x
        elif name.endswith("bias") or "_token" in name or "position" in name:
            x = 0.3 * x
        elif ".query." in name or ".key." in name:
            x *= np.sqrt(2.5 / fan_in)
        elif array.ndim == 4 and "projection" not in name:
            x = x + 0.5
        else:
            x *= 1 / np.sqrt(fan_in)
        state[name] = x.astype(np.float32)
    return state


def twin(model, dtype=torch.float32, attention=None):
    """The same network in PyTorch, with the same weights, ready to run.

    attention: "eager" gives attention weights and honours a head mask; None is upstream's default, SDPA.
    """
    fields = model.config.to_dict()
    hybrid = isinstance(model.config, ViTHybridConfig)
    config = (TorchConfig if hybrid else TorchBitConfig)(**{k: v for k, v in fields.items() if k != "stage_names"})
    if attention is not None:
        config._attn_implementation = attention
    parts = {} if type(model) is not ViTHybridModel else dict(
        add_pooling_layer=model.parts["pooler"], use_mask_token=model.parts["mask_token"])
    # A fresh upstream classifier crashes while it initializes the mask token it has not (transformers 4.51 to 4.57).
    with no_init_weights():
        network = PAIRS[type(model)](config, **parts)
    network = network.to(dtype)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in model.state_dict().items()})
    return network.eval()


def twin_states(network, model, pixel_values, **inputs):
    """Every state of the walk as PyTorch computes it, under our names, channels last.  -> {name: array}"""
    states, hooks = {}, []

    def keep(module, name, of_input=False):
        def after(module, args, result):
            x = args[0] if of_input else result
            states[name] = _ours(x[0] if isinstance(x, tuple) else x)
            if name.endswith(".context") and len(x) > 1 and x[1] is not None:
                states[name.replace("context", "weights")] = x[1].numpy()
        hooks.append(module.register_forward_hook(after))

    for name, (path, of_input) in _modules(network, model).items():
        keep(network.get_submodule(path), name, of_input)
    try:
        with torch.inference_mode():
            output = network(torch.from_numpy(pixel_values).to(next(network.parameters()).dtype), **inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if "logits" in output:
        states["logits"] = output.logits.numpy()
    if output.get("pooler_output") is not None:
        states["pooler"] = output.pooler_output.numpy().reshape(len(pixel_values), -1)
    return states, output


def _modules(network, model):
    """Our state names -> (path of upstream's module, whether the state is that module's input)."""
    hybrid, modules = isinstance(model.config, ViTHybridConfig), dict(network.named_modules())
    body = model.prefix
    bit = f"{body}embeddings.patch_embeddings.backbone.bit." if hybrid else body
    found = {"stem.conv": f"{bit}embedder.convolution", "stem.border": f"{bit}embedder.pad",
             "stem.norm": f"{bit}embedder.norm", "stem": f"{bit}embedder"}
    for s, depth in enumerate(model.network_config.depths):
        for u in range(depth):
            here = f"{bit}encoder.stages.{s}.layers.{u}"
            found |= {f"stages.{s}.{u}.{part}": f"{here}.{part}" for part in
                      ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3")}
            found |= {f"stages.{s}.{u}.proj": f"{here}.downsample.conv",
                      f"stages.{s}.{u}.norm_proj": f"{here}.downsample.norm", f"stages.{s}.{u}": here}
    found["features_norm"] = f"{bit}norm"
    if not hybrid:
        found["pooler"] = f"{bit}pooler"
    found = {name: (path, False) for name, path in found.items()}
    if hybrid:
        found |= {"tokens.proj": (f"{body}embeddings.patch_embeddings", False), "tokens": (f"{body}embeddings", False),
                  "norm": (f"{body}layernorm", False)}
        for l in range(model.network_config.blocks):
            here, ours = f"{body}encoder.layer.{l}", f"blocks.{l}"
            inner = f"{here}.attention.attention"
            found |= {f"{ours}.norm1": (f"{here}.layernorm_before", False),
                      f"{ours}.out": (f"{here}.layernorm_after", True),
                      f"{ours}.norm2": (f"{here}.layernorm_after", False),
                      f"{ours}.fc1": (f"{here}.intermediate", False),
                      f"{ours}.context": (inner, False), ours: (here, False)}
            found |= {f"{ours}.{part}": (f"{inner}.{part}", False) for part in ("query", "key", "value")}
    return {name: (path, of_input) for name, (path, of_input) in found.items() if path in modules}


def _ours(x):
    x = x.numpy()
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def error(x, truth):
    """max|x - truth| / std(truth)"""
    return float(np.abs(x.astype(np.float64) - truth).max() / truth.std())


def network(name, seed, **options):
    """A classifier by preset name, with testing weights, or the model at a path with its own."""
    if name not in nphybrid.PRESETS:
        return ViTHybridForImageClassification.from_pretrained(name, **options)
    sizes = nphybrid.PRESETS[name]
    bit = dict(model_type="bit", depths=list(sizes.depths), hidden_sizes=list(sizes.widths),
               embedding_size=sizes.stem, num_groups=sizes.groups, layer_type=sizes.unit,
               embedding_dynamic_padding=sizes.pool_padding == "same",
               global_padding={"same": "SAME", "symmetric": None}[sizes.padding])
    if not sizes.blocks:
        return _with_weights(BitForImageClassification, BitConfig(**bit, num_labels=1000), seed, options)
    config = ViTHybridConfig(
        backbone_config=bit, image_size=sizes.image[0], patch_size=sizes.patch, hidden_size=sizes.width,
        num_hidden_layers=sizes.blocks, num_attention_heads=sizes.heads, intermediate_size=sizes.hidden,
        num_labels=1000)
    return _with_weights(ViTHybridForImageClassification, config, seed, options)


def _with_weights(kind, config, seed, options):
    fresh = kind(config, engine="reference")
    return kind(config, state_dict=telling_weights(fresh, seed), **options)


def picture(size):
    """The photograph beside this file as pixel_values float32 (1, 3, H, W)."""
    processor = nphybrid.ViTHybridImageProcessor(size={"height": size[0], "width": size[1]}, do_center_crop=False,
                                                 image_mean=[0.5] * 3, image_std=[0.5] * 3)
    photograph = nphybrid.open_picture(Path(__file__).parent / "images" / "cat.png")
    return processor(photograph, return_tensors="np").pixel_values


def parity(name, seed):
    """Print the error of each stage's state: nphybrid's float32, PyTorch's float32, and their ratio."""
    exact = network(name, seed, engine="reference", dtype="float64")
    x = picture(exact.network_config.image)
    truth = exact.trace(x)
    ours = type(exact)(exact.config, state_dict=exact.state_dict()).trace(x)
    torchs, _ = twin_states(twin(exact, attention="eager"), exact, x)
    height, width = exact.network_config.image
    print(f"{name}, seed {seed}, photograph at {height} x {width}; error = max|x - truth| / std(truth)")
    print(f"{'state':24}  {'nphybrid':>9}  {'PyTorch':>9}  ratio")
    main_states = [n for n in truth if n in torchs and (n.count(".") <= (2 if n.startswith("stages") else 1))]
    for state in main_states:
        a, b = error(ours[state], truth[state]), error(torchs[state], truth[state])
        print(f"{state:24}  {a:9.2e}  {b:9.2e}  {a / b:5.2f}")
    same = int(ours["logits"].argmax()) == int(torchs["logits"].argmax())
    print(f"same label: {'yes' if same else 'NO'}")


def main():
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(nphybrid.default_model()), help="a preset's name or a path")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parity(args.model, args.seed)


if __name__ == "__main__":
    main()
