"""A loop of one's own on JAX: stateless Keras, Optax, Grain, many steps in one compiled program.

    KERAS_BACKEND=jax python examples/loop_jax_optax.py runs/jax

Kill it and start it again: it goes on at the newest checkpoint, and ends in the same weights.
"""

import sys

import grain
import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
from sklearn.datasets import load_digits

import keras_patterns as kp

STEPS, EPOCH, BLOCK = 240, 60, 16


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the weights by their order in the model."""
    keras.utils.set_random_seed(1)
    x, y = load_digits(return_X_y=True)
    x, y = (x / 16).astype("float32"), y.astype("int32")
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10)]
    )
    optimizer = optax.adamw(optax.cosine_decay_schedule(1e-2, STEPS))

    # What the loop moves: weights, the optimizer's state and a random key.
    trained = [variable.value for variable in model.trainable_variables]
    fixed = [variable.value for variable in model.non_trainable_variables]
    state = {"weights": trained, "optimizer": optimizer.init(trained), "key": jax.random.key(0)}

    def loss_of(weights, inputs, targets, key):
        noisy = inputs + 0.05 * jax.random.normal(key, inputs.shape)
        logits, _ = model.stateless_call(weights, fixed, noisy, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    def step(state, batch):
        key, own = jax.random.split(state["key"])
        loss, gradients = jax.value_and_grad(loss_of)(state["weights"], *batch, own)
        updates, moments = optimizer.update(gradients, state["optimizer"], state["weights"])
        weights = optax.apply_updates(state["weights"], updates)
        return {"weights": weights, "optimizer": moments, "key": key}, loss

    @jax.jit
    def many_steps(state, batches):
        return jax.lax.scan(step, state, batches)

    def put(saved):
        nonlocal state
        state = saved

    with kp.Run(
        model,
        plan=kp.StepPlan(STEPS, EPOCH),
        data=batches_of(x, y),
        checkpoint=kp.Checkpoint(folder, every_steps=20),
        seed=0,
    ) as run:
        run.track(state=(lambda: state, put))
        for _, batches in run.blocks(most=BLOCK):
            state, losses = many_steps(state, stacked(batches))
            for loss in losses:
                run.log({"loss": loss})
    for variable, value in zip(model.trainable_variables, state["weights"], strict=True):
        variable.assign(value)
    print("loss by epoch:", [round(value, 4) for value in run.history.history["loss"]])
    return {str(index): np.asarray(value) for index, value in enumerate(state["weights"])}


def batches_of(x, y):
    """Batches of one shape, in a new order in each pass."""
    examples = grain.MapDataset.range(len(x)).seed(0).shuffle()
    return examples.map(lambda index: (x[index], y[index])).batch(32, drop_remainder=True)


def stacked(batches):
    """Batches along a new first axis."""
    return tuple(jnp.stack(arrays) for arrays in zip(*batches, strict=True))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/jax")
