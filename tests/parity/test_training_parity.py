"""A whole run against PyTorch: one start, one sequence of batches, float64.  The losses and the weights stay equal."""
import numpy as np
import pytest
from PIL import Image

from nphybrid import ViTHybridConfig, ViTHybridForImageClassification
from nphybrid.__main__ import main
from nphybrid.checkpoint import to_state_dict
from nphybrid.testing import telling_weights, torch_twin
from nphybrid.training import Settings, loop, optimizers
from nphybrid.training.pictures import Labelled, order_of_epoch

from tools.on_demand import on_demand

pytestmark = pytest.mark.slow

torch, transformers = on_demand("torch"), on_demand("transformers")

BIT = dict(embedding_size=8, hidden_sizes=[16], depths=[1], num_groups=2, layer_type="bottleneck",
           global_padding="same", embedding_dynamic_padding=True)
HYBRID = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20, num_labels=3,
              image_size=16, backbone_config=BIT)
SQUARE = dict(height=16, width=16)
PICTURES, BATCH, EPOCHS = 23, 4, 9        # 6 steps an epoch, 54 in all; the last batch of an epoch has 3 pictures


def trainer(settings):
    """A Trainer with the weights of `telling_weights`, on pictures of noise."""
    config = ViTHybridConfig(**HYBRID)
    fresh = ViTHybridForImageClassification(config, engine="reference")
    model = type(fresh)(config, state_dict=telling_weights(fresh, 5), engine="reference", dtype="float64")
    model.processor = dict(size=SQUARE, crop_size=SQUARE, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(x) for x in rng.integers(0, 256, (PICTURES, 16, 16, 3), dtype=np.uint8)]
    known = Labelled(noise, rng.integers(0, 3, PICTURES))
    return loop.Trainer(model, known, known.part(np.arange(0)), settings)


def their_road(one):
    """The losses, the gradient norms and the weights of transformers' model, trained with PyTorch's own tools."""
    settings, twin = one.settings, torch_twin(one.model)
    named = dict(twin.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim > 1 and "position" not in name and "token" not in name]
    rest = [p for p in named.values() if not any(p is q for q in matrices)]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = (torch.optim.AdamW(groups, settings.learning_rate) if settings.optimizer == "adamw"
                 else torch.optim.SGD(groups, settings.learning_rate, momentum=0.9))
    schedule = transformers.get_scheduler(settings.schedule, optimizer, settings.warmup, one.steps)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=settings.smoothing)
    losses, norms = [], []
    for epoch in range(1, EPOCHS + 1):
        order = order_of_epoch(PICTURES, settings.seed, epoch)
        for chosen in np.split(order, range(BATCH, PICTURES, BATCH)):
            x = np.stack([one.prepare.plain(one.known.sources[i]) for i in chosen]).astype(np.float64)
            loss = loss_function(twin(torch.from_numpy(x)).logits, torch.from_numpy(one.known.classes[chosen]))
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(twin.parameters(), settings.clip)))
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses, norms, {name: p.detach().numpy() for name, p in named.items()}


ROADS = [dict(optimizer="adamw", learning_rate=1e-3, weight_decay=0.1, schedule="linear", smoothing=0.1),
         dict(optimizer="adamw", learning_rate=3e-3, schedule="cosine", warmup=7, clip=0.5),
         dict(optimizer="sgd", learning_rate=1e-2, weight_decay=0.01, schedule="constant", clip=2.0)]


def compare(options):
    """The largest relative distance of a loss, of a norm, and the largest distance of a weight, from PyTorch's."""
    one = trainer(Settings(epochs=EPOCHS, batch=BATCH, augment="none", **{"schedule": "linear", **options}))
    losses, norms, weights = their_road(trainer(one.settings))
    steps = [step for epoch in range(1, EPOCHS + 1) for step in one.epoch(epoch)]
    assert len(steps) == len(losses) == one.steps == 54
    ours = to_state_dict(one.learned, one.model.table, one.model.network_config)
    assert np.ptp(losses) > 0.1
    return (max(abs(step.loss - loss) / loss for step, loss in zip(steps, losses)),
            max(abs(step.gradient_norm - norm) / norm for step, norm in zip(steps, norms)),
            max(np.abs(ours[name] - array).max() for name, array in weights.items() if "pooler" not in name))


@pytest.mark.parametrize("options", ROADS, ids=["adamw", "adamw-cosine", "sgd"])
def test_fifty_steps_stay_on_the_road_of_pytorch(options):
    loss, norm, weight = compare(options)
    assert loss <= 1e-9 and norm <= 1e-8 and weight <= 1e-8         # observed 2e-13, 3e-13, 6e-12


def test_a_wrong_bias_correction_leaves_the_road(monkeypatch):
    """One step too far."""
    original = optimizers.AdamW.numbers

    def numbers(self, rate, decay):
        self.steps += 1
        found = original(self, rate, decay)
        self.steps -= 1
        return found
    monkeypatch.setattr(optimizers.AdamW, "numbers", numbers)
    assert compare(ROADS[0])[2] > 1e-4


def test_transformers_answers_as_the_result(tmp_path):
    """The result of a run, as a Hugging Face folder."""
    one = trainer(Settings())
    one.model.save(tmp_path / "start.h5")
    for name, k in (("cat", 0), ("dog", 1)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            one.known.sources[6 * k + i].save(tmp_path / "photos" / name / f"{i}.png")
    model, folder = str(tmp_path / "out.h5"), str(tmp_path / "folder")
    options = ["--engine", "reference", "--epochs", "1", "--learning-rate", "1e-2", "--quiet"]
    assert main(["finetune", str(tmp_path / "photos"), "-o", model, "--model", str(tmp_path / "start.h5"),
                 *options]) == 0
    assert main(["convert", model, folder]) == 0
    theirs = transformers.ViTHybridForImageClassification.from_pretrained(folder).eval()
    ours = ViTHybridForImageClassification.from_pretrained(model, engine="reference", dtype="float64")
    assert theirs.config.id2label == ours.config.id2label == {0: "cat", 1: "dog"}
    x = np.stack([one.prepare.plain(source) for source in one.known.sources])
    with torch.no_grad():
        expected = theirs.double()(torch.from_numpy(x).double()).logits.numpy()
    apart = np.abs(ours(x).logits - expected).max() / np.abs(expected).max()
    assert apart <= 1e-9                                                                # observed 4e-15
