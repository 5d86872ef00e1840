"""A loop of one's own on TensorFlow: a tape, a Keras optimizer, an average of the weights, and a
tf.data pipeline.

    KERAS_BACKEND=tensorflow python examples/loop_tensorflow_tape.py runs/tensorflow

Kill it and start it again: it goes on at the newest checkpoint, and ends in the same weights.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import keras_patterns as kp

STEPS, EPOCH = 120, 30


def main(folder: str) -> dict[str, np.ndarray]:
    """Trains; returns the averages by their order in the model."""
    keras.utils.set_random_seed(1)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(10),
        ]
    )
    optimizer = keras.optimizers.Adam(5e-3)
    optimizer.build(model.trainable_variables)
    averages = [keras.Variable(v.value, trainable=False) for v in model.trainable_variables]
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def train_step(inputs, targets):
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(inputs, training=True))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients)
        for average, variable in zip(averages, model.trainable_variables, strict=True):
            average.assign(0.98 * average.value + 0.02 * variable.value)
        return {"loss": loss}

    def validate():
        predicted = np.argmax(model(x[-200:]), axis=1)
        return {"accuracy": float(np.mean(predicted == y[-200:]))}

    with kp.Run(
        model,
        plan=kp.StepPlan(STEPS, EPOCH),
        data=tf.data.Dataset.from_tensor_slices((x[:-200], y[:-200])).shuffle(1_000).batch(64),
        checkpoint=kp.Checkpoint(folder, every_steps=20, keep_best=1, monitor="val_accuracy"),
        callbacks=[kp.EarlyStopping("val_accuracy", patience=3)],
        validate=validate,
        seed=0,
    ) as run:
        run.track(optimizer=optimizer, averages=averages)
        for _, (inputs, targets) in run.steps():
            run.log(train_step(tf.constant(inputs), tf.constant(targets)))
    print("accuracy by epoch:", [round(v, 3) for v in run.history.history["val_accuracy"]])
    return {str(index): average.numpy() for index, average in enumerate(averages)}


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/tensorflow")
