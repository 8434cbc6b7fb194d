"""A start that is trained on the study's own images before any label is seen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen


class InitConfig(Frozen):
    """Self-supervised training of the encoder, before the task: ``training.init: {name: simclr, pairs: serial}``.

    It sees unlabelled patches of training patients: of the sources, and of the targets where the protocol shows them.
    Strategies with the same view, network, seed and setting share it.
    """

    name: Literal["simclr", "byol", "autoencoder"] = Field(
        "simclr",
        description="the loss: simclr (Chen et al. 2020, arXiv 2002.05709), byol (Grill et al. 2020, arXiv "
        "2006.07733), or autoencoder: patches are made again from the encoder's features",
    )
    pairs: Literal["augmentation", "serial"] = Field(
        "augmentation",
        description="what is brought together: two augmentations of a patch, or the same place on two registered "
        "sections (each augmented too)",
    )
    epochs: int = Field(50, ge=1, description="each takes every patch or pair about once")
    batch_size: int = Field(64, ge=4, description="patches or pairs per step; the others of a batch are the negatives")
    learning_rate: float = Field(1e-3, gt=0, description="at its highest; it falls as a cosine")
    weight_decay: float = Field(1e-4, ge=0, description="of the optimiser (AdamW)")
    temperature: float = Field(0.2, gt=0, description="simclr: similarities are divided by it")
    momentum: float = Field(0.99, ge=0, lt=1, description="byol: what of the target network stays at each step")
    sparsity: float = Field(0.0, ge=0, description="autoencoder: weight of the mean absolute feature")
    dimensions: int = Field(64, ge=2, description="of the projection that the loss compares")
    colour: Literal["none", "light", "strong"] = Field("strong", description="changes of colour in the augmentation")
    certainty: float = Field(
        0.5, ge=0, le=1, description="serial: pairs are used from this mean certainty of their registration on"
    )

    @model_validator(mode="after")
    def _consistent(self) -> InitConfig:
        if self.name == "autoencoder" and self.pairs == "serial":
            raise ValueError("an autoencoder takes no pairs; leave pairs out")
        return self

    def __str__(self) -> str:
        if self.name == "autoencoder":
            return f"{'sparse ' if self.sparsity else ''}autoencoder, {self.epochs} epochs"
        pairs = "registered serial sections" if self.pairs == "serial" else "augmentations"
        return f"{self.name} on {pairs}, {self.epochs} epochs"
