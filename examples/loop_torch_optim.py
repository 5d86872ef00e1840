"""A loop of one's own on PyTorch: a GAN of Keras layers with two optimizers of torch.optim, and
a DataLoader.

    KERAS_BACKEND=torch python examples/loop_torch_optim.py runs/torch

Kill it and start it again: it goes on at the newest checkpoint, and ends in the same weights.
"""

import sys

import keras
import numpy as np
import torch
from sklearn.datasets import load_digits

import keras_patterns as kp

STEPS, EPOCH, NOISE = 120, 30, 8


class Gan(keras.Model):
    """A generator and a critic, held in one model so that one checkpoint has them both."""

    def __init__(self) -> None:
        super().__init__()
        dense = keras.layers.Dense
        self.generator = keras.Sequential(
            [keras.Input((NOISE,)), dense(32, activation="relu"), dense(64, activation="sigmoid")]
        )
        self.critic = keras.Sequential(
            [
                keras.Input((64,)),
                dense(32, activation="leaky_relu"),
                keras.layers.Dropout(0.2),
                dense(1),
            ]
        )
        self.built = True

    def call(self, noise):
        return self.generator(noise)


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    x, _ = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    gan = Gan()

    def parameters(part):
        return [variable.value for variable in part.trainable_variables]

    makers = torch.optim.Adam(parameters(gan.generator), 2e-3, betas=(0.5, 0.99))
    critics = torch.optim.Adam(parameters(gan.critic), 2e-3, betas=(0.5, 0.99))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits

    def train_step(real):
        fake = gan.generator(torch.randn(len(real), NOISE), training=True)
        scores = gan.critic(torch.cat([real, fake.detach()]), training=True)
        truth = torch.cat([torch.ones(len(real), 1), torch.zeros(len(real), 1)])
        critic_loss = entropy(scores, truth)
        critics.zero_grad()
        critic_loss.backward()
        critics.step()

        scores = gan.critic(fake, training=True)
        maker_loss = entropy(scores, torch.ones(len(real), 1))
        makers.zero_grad()
        maker_loss.backward()
        makers.step()
        return {"critic_loss": critic_loss, "maker_loss": maker_loss}

    with kp.Run(
        gan,
        plan=kp.StepPlan(STEPS, EPOCH),
        data=torch.utils.data.DataLoader(torch.from_numpy(x), batch_size=64, shuffle=True),
        checkpoint=kp.Checkpoint(folder, every_steps=20),
        seed=0,
    ) as run:
        run.track(makers=makers, critics=critics)
        for _, (real,) in run.steps():
            run.log(train_step(real))
    print("critic's loss by epoch:", [round(v, 4) for v in run.history.history["critic_loss"]])
    return {
        str(index): keras.ops.convert_to_numpy(variable.value)
        for index, variable in enumerate(gan.weights)
    }


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/torch")
