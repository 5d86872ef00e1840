"""A differential equation in a net: logistic growth, solved on a table and memorised.

    python examples/memorize_logistic_growth.py

The solver integrates u' = u (1 - u) from u(0) = u0 by the method of Runge and Kutta; the table is
also compared with the formula. The net then gives u for any (t, u0) in one pass.
"""

import keras
import numpy as np

import keras_patterns as kp

DOMAIN = [(0.0, 10.0), (0.05, 0.5)]  # t, u0
STEPS = 8_000


def solve(point: np.ndarray, parts: int = 100) -> float:
    """u(t) of the classical method of fourth order."""
    t, u = point
    h = t / parts

    def slope(u):
        return u * (1 - u)

    for _ in range(parts):
        a = slope(u)
        b = slope(u + h / 2 * a)
        c = slope(u + h / 2 * b)
        d = slope(u + h * c)
        u += h / 6 * (a + 2 * b + 2 * c + d)
    return u


def formula(points: np.ndarray) -> np.ndarray:
    """The solution on paper."""
    t, start = points.T
    return 1 / (1 + (1 / start - 1) * np.exp(-t))


def make_net(x: np.ndarray) -> keras.Model:
    """Two layers of sines, which suit smooth functions, on inputs of unit variance."""
    scale = keras.layers.Normalization()
    scale.adapt(x)
    wide = [keras.initializers.VarianceScaling(gain, "fan_in", "uniform") for gain in (6, 2)]
    hidden = [keras.layers.Dense(128, keras.ops.sin, kernel_initializer=one) for one in wide]
    return keras.Sequential([keras.Input(x.shape[1:]), scale, *hidden, keras.layers.Dense(1)])


def main() -> kp.MemorizationReport:
    """Tabulates, memorises, and says how far the net is from the formula between the points."""
    keras.utils.set_random_seed(0)
    x, y = kp.tabulate(solve, DOMAIN, (33, 17))
    print(f"The solver is within {np.abs(y - formula(x)).max():.1e} of the formula.")
    model = make_net(x)
    rate = keras.optimizers.schedules.CosineDecay(0.003, STEPS)
    model.compile(keras.optimizers.Muon(rate), "mse")
    report = kp.memorize(
        model, x, y, 1e-3, relative=True, batch_size=256, total_steps=STEPS, epochs=80
    )
    print(report)
    between, _ = kp.tabulate(solve, DOMAIN, 512, sampling="sobol", verbose=0)
    apart = np.abs(model.predict(between, verbose=0)[:, 0] - formula(between))
    print(f"Between the points of the table it is within {apart.max():.1e} of the formula.")
    return report


if __name__ == "__main__":
    main()
