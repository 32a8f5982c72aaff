"""What the names and shapes of weights say about the network that they belong to (no torch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from trainers.families import part_name
from trainers.generators.unet import halvings

Traits = dict[str, Any]


class Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


State = Mapping[str, Shaped]

_WORDS = {
    "bands_in": "its first convolution reads {found} bands, the data has {wanted} SAR bands",
    "bands_out": "it makes {found} bands, the data has {wanted} optical bands",
    "bands": "its first convolution reads {found} bands, the data has {wanted} SAR and optical bands together",
    "network": "it holds a {found}, not a {wanted}",
}


def of_state(state: State) -> Traits:
    """The traits of the U-Net or PatchGAN with these weights (in our names); empty for any other network.

    `norm` is `batch` or `spectral` where weights show it; instance norm and none look alike.
    """
    try:
        if "downs.0.0.weight" in state:
            return _of_unet(state)
        return _of_patchgan(state) if _convolution(state, "towers.0.0") is not None else {}
    except (LookupError, ValueError):  # called like ours, and another network
        return {}


def of_recipe(options: Any, *, tile: int) -> Traits:
    """The traits that a recipe's generator or discriminator will have; empty for any other network."""
    name = part_name(options)
    if name == "unet":
        depth = options.depth or halvings(tile)
        return {"network": name, "width": options.width, "depth": depth, "norm": _norm(options.norm),
                "skip": options.skip, "fusion": options.fusion}  # fmt: skip
    if name == "patchgan":
        return {"network": name, "width": options.width, "layers": options.layers, "scales": options.scales,
                "norm": _norm(options.norm)}  # fmt: skip
    return {}


def differences(found: Traits, wanted: Traits) -> str:
    """Where the two differ, in words; empty where they do not."""
    if found.get("network", wanted.get("network")) != wanted.get("network", found.get("network")):
        wanted = {"network": wanted["network"]}
    other = {name: value for name, value in wanted.items() if name in found and found[name] != value}
    plain = [name for name in other if name not in _WORDS]
    said = [_WORDS[name].format(found=_named(found[name]), wanted=_named(other[name]))
            for name in other if name in _WORDS]  # fmt: skip
    if plain:
        said.append(f"it has {_list(plain, found)}, the recipe asks for {_list(plain, wanted)}")
    return "; ".join(said)


def _list(names: Iterable[str], traits: Traits) -> str:
    return ", ".join(f"{name} {str(traits[name]).lower()}" for name in names)


def _named(value: Any) -> Any:
    return {"unet": "generator (a U-Net)", "patchgan": "discriminator (a PatchGAN)"}.get(value, value)


def _norm(name: str) -> str:
    """The norm as far as weights show it."""
    alike = {"sync_batch": "batch", "instance": "instance or none", "none": "instance or none"}
    return alike.get(name, name)


def _of_unet(state: State) -> Traits:
    first = state["downs.0.0.weight"].shape
    depth = len({key.split(".")[1] for key in state if key.startswith("downs.")})
    joined, bands_out = state[f"ups.{depth - 1}.1.weight"].shape[:2]
    gated = any(key.startswith("gates.") for key in state)
    return {
        "network": "unet", "width": first[0], "depth": depth, "norm": _shown_norm(state, "ups.0.2"),
        "skip": "gated" if gated else "concat" if joined == 2 * first[0] else "add",
        "fusion": any(key.startswith("fusion.") for key in state),
        "bands_in": first[1], "bands_out": bands_out,
    }  # fmt: skip


def _of_patchgan(state: State) -> Traits:
    first = _convolution(state, "towers.0.0").shape
    layers = {key.split(".")[2] for key, tensor in state.items()
              if key.startswith("towers.0.") and len(tensor.shape) == 4}  # fmt: skip
    spectral = "towers.0.0.weight" not in state
    return {
        "network": "patchgan", "width": first[0], "layers": len(layers) - 2,
        "scales": len({key.split(".")[1] for key in state}),
        "norm": "spectral" if spectral else _shown_norm(state, "towers.0.3"), "bands": first[1],
    }  # fmt: skip


def _convolution(state: State, layer: str) -> Shaped | None:
    weight = state.get(f"{layer}.weight")
    return weight if weight is not None else state.get(f"{layer}.parametrizations.weight.original")


def _shown_norm(state: State, layer: str) -> str:
    if f"{layer}.weight" not in state:
        return "instance or none"
    return "batch" if f"{layer}.running_mean" in state else "instance with weights"
