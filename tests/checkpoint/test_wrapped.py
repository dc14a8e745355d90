"""What training puts around the names of weights and keeps beside them: the answer is that of the bare file."""
import shutil

import numpy as np
import pytest

from nphybrid import (BitConfig, BitForImageClassification, FormatError, ViTConfig, ViTForImageClassification,
                      ViTHybridConfig, ViTHybridForImageClassification)
from nphybrid.api.load import load
from nphybrid.tensorfile import read_safetensors, write_npz, write_safetensors

from oracles.cases import normal
from oracles.published import jax_vit, npz_file, telling, timm_file, timm_vit

BACKBONE = dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2)
ENCODER = dict(image_size=32, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=8,
               num_labels=3)
MODELS = {
    "vit": (ViTForImageClassification, ViTConfig(patch_size=8, **ENCODER)),
    "hybrid": (ViTHybridForImageClassification, ViTHybridConfig(
        backbone_config=dict(**BACKBONE, layer_type="bottleneck", global_padding="SAME", out_features=["stage1"],
                             embedding_dynamic_padding=True), **ENCODER)),
    "bit": (BitForImageClassification, BitConfig(**BACKBONE, num_labels=3)),
}
BESIDE = {"optimizer.state.0.exp_avg": normal(1, 5), "module.n_averaged": np.array(7, np.int64),
          "epoch": np.array(3, np.int64), "lr_scheduler.last_lr": normal(2, 1), "loss_fn.weight": normal(3, 3)}
JAX_BESIDE = {"opt/state/step": np.array(7, np.int64), "opt_state/0/mu/head/bias": normal(1, 3), "step": np.array(2),
              "chrono/accum_train_time": normal(2)}


def logits(path, size=32):
    return load(path, engine="reference")(normal(9, 2, 3, size, size)).logits.tobytes()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.",
                                    "my_module."])
def test_a_folder_of_hugging_face(kind, prefix, tmp_path):
    model_class, config = MODELS[kind]
    model_class(config, engine="reference").save_pretrained(tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / "wrapped")
    arrays = read_safetensors(tmp_path / "plain" / "model.safetensors")
    beside = {} if prefix == "my_module." else BESIDE
    write_safetensors(tmp_path / "wrapped" / "model.safetensors",
                      {prefix + name: array for name, array in arrays.items()} | beside)
    assert logits(tmp_path / "wrapped") == logits(tmp_path / "plain")
    # The original kernels are read again from the file.
    load(tmp_path / "wrapped", engine="reference").save_pretrained(tmp_path / "again")
    assert logits(tmp_path / "again") == logits(tmp_path / "plain")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "timm_model.", "encoder."])
def test_a_file_of_timm(prefix, tmp_path):
    arrays = telling(timm_vit(depths=(1,), widths=(128,), D=64, L=1, F=8, classes=3))
    path = timm_file(tmp_path, arrays)
    size = load(path, engine="reference").network_config.image[0]
    plain = logits(path, size)
    beside = {} if prefix == "encoder." else BESIDE
    write_safetensors(path, {prefix + name: array for name, array in arrays.items()} | beside)
    assert logits(path, size) == plain


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "optimizer/target/params/", "vit/"])
def test_a_file_of_jax(prefix, tmp_path):
    arrays = telling(jax_vit(depths=(1,), widths=(128,), D=12, L=1, F=8, A=3, classes=3))
    path = npz_file(tmp_path, arrays)
    size = load(path, engine="reference").network_config.image[0]
    plain = logits(path, size)
    write_npz(path, {prefix + name: array for name, array in arrays.items()} | ({} if prefix == "vit/" else JAX_BESIDE))
    assert logits(path, size) == plain


def test_averages_beside_the_weights_are_told(tmp_path):
    model = ViTForImageClassification(MODELS["vit"][1], engine="reference")
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    average = {f"ema_model.module.{name}": array / 2 for name, array in state.items()}
    plain = logits(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", state | average)
    with pytest.warns(UserWarning, match=r"also holds \d+ averages of weights, such as ema_model.module."):
        assert logits(tmp_path) == plain
    write_safetensors(tmp_path / "model.safetensors", average)
    model.load_state_dict({name: array / 2 for name, array in state.items()})
    assert logits(tmp_path) == model(normal(9, 2, 3, 32, 32)).logits.tobytes() != plain


@pytest.mark.parametrize("with_card", [True, False])
@pytest.mark.parametrize("parts", [("student.", "teacher."), ("student.module.", "teacher."), ("online.", "target.")])
def test_several_networks_in_one_file_are_refused(parts, with_card, tmp_path):
    """Nothing says which of them is meant."""
    model = ViTForImageClassification(MODELS["vit"][1], engine="reference")
    model.save_pretrained(tmp_path)
    if not with_card:
        (tmp_path / "config.json").unlink()
    state = model.state_dict()
    write_safetensors(tmp_path / "model.safetensors",
                      {part + name: array for part in parts for name, array in state.items()} | BESIDE)
    first, second = (part.split(".")[0] for part in parts)
    told = f"model.safetensors holds 2 networks, whose names begin with '{first}.', '{second}.'; expected one network"
    with pytest.raises(FormatError, match=told):
        load(tmp_path, engine="reference")


@pytest.mark.parametrize("name", ["rng_state", "torch_rng_state", "cuda_rng_state.0", "loss", "val_loss", "val_acc.tp",
                                  "lr_schedulers.0.base_lrs", "loss_scaler.scale", "callbacks.ckpt.best", "criterion.w",
                                  "hyper_parameters.lr"])
def test_what_trainers_keep_by_these_names_is_no_array_of_the_network(name, tmp_path):
    model = ViTForImageClassification(MODELS["vit"][1], engine="reference")
    model.save_pretrained(tmp_path)
    plain = logits(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", model.state_dict() | {name: normal(1, 3)})
    assert logits(tmp_path) == plain


@pytest.mark.parametrize("name", ["temperature", "logit_scale", "lossy.weight", "class_prior", "metric_head.weight"])
def test_an_array_that_could_change_an_answer_is_refused(name, tmp_path):
    model = ViTForImageClassification(MODELS["vit"][1], engine="reference")
    model.save_pretrained(tmp_path)
    write_safetensors(tmp_path / "model.safetensors", model.state_dict() | {name: normal(1, 3)})
    with pytest.raises(FormatError, match=name):
        load(tmp_path, engine="reference")


def test_two_copies_of_a_weight_are_refused(tmp_path):
    model = ViTForImageClassification(MODELS["vit"][1], engine="reference")
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    write_safetensors(tmp_path / "model.safetensors", state | {"module.classifier.bias": state["classifier.bias"]})
    with pytest.raises(FormatError, match="classifier.bias is in the file twice, also with the name module.classifier"):
        load(tmp_path, engine="reference")
