"""Adversarial training by hardy beside a loop that is written the usual way: images per second, and what they reach.

    python benchmarks/train_vs_plain.py [--images 55000] [--epochs 1] [--rounds 3] [--json PATH]

The plain loop is what tutorials show: float32, contiguous tensors, a ``DataLoader``, the attack in a function of its
own that takes the gradient with respect to the images while the parameters ask for theirs too. Both train the same
networks with the same optimizer on the same images, in turns, so that other work on the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from hardy.data import load_dataset
from hardy.devices import choose_device, describe
from hardy.models import build_model
from hardy.threats import ThreatModel
from hardy.training import Objective, Recipe, Split, fit, validation_accuracy
from hardy.training.selection import robust_accuracy

EPS = 0.3
BATCH = 256
RATE = 1e-3
OBJECTIVES = {
    "PGD-7": Objective("adversarial", {"eps": EPS, "steps": 7, "step_size": 0.08, "ramp": 0.5}),
    "TRADES-5": Objective("trades", {"eps": EPS, "steps": 5, "step_size": 0.1, "beta": 2.0, "ramp": 0.5}),
}


def pgd(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    moved = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(7):
        moved.requires_grad_(True)
        loss = F.cross_entropy(model(moved), labels)
        gradient = torch.autograd.grad(loss, moved)[0]
        moved = moved.detach() + min(0.08, eps) * gradient.sign()
        moved = torch.min(torch.max(moved, images - eps), images + eps).clamp(0, 1)
    return moved.detach()


def trades_search(model: nn.Module, images: Tensor, _: Tensor, eps: float) -> Tensor:
    model.eval()
    clean = F.softmax(model(images), dim=1).detach()
    moved = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _step in range(5):
        moved.requires_grad_(True)
        loss = F.kl_div(F.log_softmax(model(moved), dim=1), clean, reduction="sum")
        gradient = torch.autograd.grad(loss, moved)[0]
        moved = moved.detach() + min(0.1, eps) * gradient.sign()
        moved = torch.min(torch.max(moved, images - eps), images + eps).clamp(0, 1)
    model.train()
    return moved.detach()


def plain(name: str, network: str, train: Split, epochs: int, device: torch.device) -> tuple[nn.Module, float]:
    """The network and the seconds that it took."""
    torch.manual_seed(0)
    model = build_model(network).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    loader = DataLoader(
        TensorDataset(train.images.float().cpu() / 255, train.labels.cpu()), BATCH, shuffle=True, drop_last=True
    )
    started, step, steps = time.perf_counter(), 0, epochs * len(loader)
    for _ in range(epochs):
        for batch in loader:
            images, labels = batch[0].to(device), batch[1].to(device)
            eps = EPS * min(1.0, step / steps / 0.5)
            if name == "PGD-7":
                loss = F.cross_entropy(model(pgd(model, images, labels, eps)), labels)
            else:
                moved = trades_search(model, images, labels, eps)
                clean = model(images)
                divergence = F.kl_div(F.log_softmax(model(moved), 1), F.softmax(clean, 1), reduction="batchmean")
                loss = F.cross_entropy(clean, labels) + 2.0 * divergence
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return model.eval(), time.perf_counter() - started


def hardened(name: str, network: str, train: Split, epochs: int, validation: Split) -> tuple[nn.Module, float]:
    recipe = Recipe(
        name,
        "",
        model=network,
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=RATE,
        schedule="constant",
        objectives=(OBJECTIVES[name],),
    )
    started = time.perf_counter()
    fitted = fit(recipe, train, validation, 10, seed=0)
    seconds = time.perf_counter() - started
    model = build_model(network).to(train.images.device)
    model.load_state_dict(fitted.weights)
    return model.eval(), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=55_000, help="training images")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each; the median counts")
    parser.add_argument("--networks", nargs="+", default=["compact", "strided"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    data, held, test = (load_dataset(f"mnist/{it}") for it in ("train", "validation", "test"))
    train = Split(data.images[: arguments.images].to(device), data.labels[: arguments.images].to(device))
    # A few validation images, as the plain loop measures nothing between epochs.
    validation = Split(held.images[:100].to(device), held.labels[:100].to(device))
    measured = Split(test.images.to(device), test.labels.to(device))
    images = arguments.epochs * (len(train.labels) // BATCH) * BATCH
    result: dict[str, Any] = {"device": describe(device), "threads": torch.get_num_threads(), "images": images}
    print(f"{describe(device)}, {torch.get_num_threads()} threads, {images:,} images trained on")
    for network in arguments.networks:
        for name in OBJECTIVES:
            speeds: dict[str, list[float]] = {"plain": [], "hardy": []}
            reached: dict[str, tuple[float, float]] = {}
            for _ in range(arguments.rounds):
                for which in speeds:
                    model, seconds = (
                        plain(name, network, train, arguments.epochs, device)
                        if which == "plain"
                        else hardened(name, network, train, arguments.epochs, validation)
                    )
                    speeds[which].append(images / seconds)
                    state = dict(model.state_dict())
                    robust = robust_accuracy(model, state, measured, (ThreatModel("linf", EPS),))
                    reached[which] = (validation_accuracy(model, state, measured), robust)
            middle = {which: median(values) for which, values in speeds.items()}
            text = "; ".join(
                f"{which} {middle[which]:,.0f} images/s, {accuracy:.1%} clean, {under_attack:.1%} attacked"
                for which, (accuracy, under_attack) in reached.items()
            )
            ratio = middle["hardy"] / middle["plain"]
            print(f"{network}, {name}: {text}; {ratio:.2f} times as fast", flush=True)
            result[f"{network} {name}"] = {"speeds": speeds, "reached": reached, "ratio": ratio}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
