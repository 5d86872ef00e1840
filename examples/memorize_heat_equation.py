"""A partial differential equation in a net: the heat equation, memorised from its series.

    python examples/memorize_heat_equation.py

A rod of length 1 has the temperature 1 everywhere, until its ends are cooled to 0. The table holds
the temperature by place and time. Where a solver takes minutes for each point, give `kp.tabulate` a
`path`: a kill then loses no value.
"""

import keras
import numpy as np

import keras_patterns as kp

DOMAIN = [(0.0, 1.0), (0.01, 0.2)]  # x, t
STEPS = 8_000


def series(points: np.ndarray) -> np.ndarray:
    """The temperature, by Fourier's series of odd waves, of shape `(points,)`."""
    x, t = points.T[:, :, np.newaxis]
    k = np.pi * np.arange(1, 100, 2)
    return np.sum(4 / k * np.sin(k * x) * np.exp(-(k**2) * t), axis=1)


def make_net(x: np.ndarray) -> keras.Model:
    """Two layers of sines, which suit smooth functions, on inputs of unit variance."""
    scale = keras.layers.Normalization()
    scale.adapt(x)
    wide = [keras.initializers.VarianceScaling(gain, "fan_in", "uniform") for gain in (12, 2)]
    hidden = [keras.layers.Dense(128, keras.ops.sin, kernel_initializer=one) for one in wide]
    return keras.Sequential([keras.Input(x.shape[1:]), scale, *hidden, keras.layers.Dense(1)])


def main() -> kp.MemorizationReport:
    """Tabulates, memorises, and says how far the net is from the series between the points."""
    keras.utils.set_random_seed(0)
    x, y = kp.tabulate(series, DOMAIN, (33, 32), batch_size=256)
    model = make_net(x)
    rate = keras.optimizers.schedules.CosineDecay(0.003, STEPS)
    model.compile(keras.optimizers.Muon(rate), "mse")
    report = kp.memorize(
        model, x, y, 1e-3, relative=True, batch_size=256, total_steps=STEPS, epochs=80
    )
    print(report)
    between, exact = kp.tabulate(series, DOMAIN, 512, sampling="sobol", batch_size=512, verbose=0)
    apart = np.abs(model.predict(between, verbose=0)[:, 0] - exact)
    print(f"Between the points of the table it is within {apart.max():.1e} of the series.")
    return report


if __name__ == "__main__":
    main()
