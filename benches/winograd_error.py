"""Why 3x3 convolutions go by Winograd's F(2x2) and not by F(4x4): their errors beside PyTorch's own.

    python3 winograd_error.py            (needs PyTorch and sympy, which comes with it)

Errors are the root mean square distances from the convolution in f64, at the 3x3 layers of ResNet-50 (batch 2, activations
after a ReLU, He's weights), as multiples of the error of PyTorch's f32 convolution, which adds up in direct order. An
output takes 9 multiplications by the definition, 4 with F(2x2), 2.25 with F(4x4), which is tried with Lavin's points
(arXiv 1509.09308) and with others, since the choice decides about its error (Barabasz et al., arXiv 1803.10986).
"""

import sympy
import torch

LAYERS = [(64, 56), (128, 28), (256, 14), (512, 7)]
HALF = sympy.Rational(1, 2)
POINTS = {
    "F(2x2), 0 1 -1": (2, [0, 1, -1]),
    "F(4x4), 0 1 -1 2 -2 (Lavin)": (4, [0, 1, -1, 2, -2]),
    "F(4x4), 0 1 -1 2 -1/2": (4, [0, 1, -1, 2, -HALF]),
    "F(4x4), 0 1 -1 1/2 -1/2": (4, [0, 1, -1, HALF, -HALF]),
    "F(4x4), 0 3/4 -3/4 3/2 -3/2": (4, [0, HALF * 3 / 2, -HALF * 3 / 2, 3 * HALF, -3 * HALF]),
    "F(4x4), 0 5/8 -5/8 5/4 -5/4": (4, [0, HALF * 5 / 4, -HALF * 5 / 4, 5 * HALF / 2, -5 * HALF / 2]),
}


def transforms(m, points):
    """A', G and B' of F(m, 3) by Toom and Cook, with denominators moved from B' to G."""
    n = m + 2
    evaluated = sympy.Matrix(n, n, lambda i, j: points[i] ** j if i < n - 1 else int(j == n - 1))
    of = lambda columns: sympy.Matrix(n, columns, lambda i, j: points[i] ** j if i < n - 1 else int(j == columns - 1))
    a, g, b = of(m).T, of(3), evaluated.inv().T
    for row in range(n):
        scale = sympy.ilcm(*[sympy.Rational(value).q for value in b[row, :]])
        b[row, :], g[row, :] = b[row, :] * scale, g[row, :] / scale
    return [torch.tensor(matrix.tolist(), dtype=torch.float64) for matrix in (a, g, b)]


def winograd(x, w, m, matrices):
    a, g, b = (matrix.to(x.dtype) for matrix in matrices)
    n, channels, side, _ = x.shape
    tiles = -(-side // m)
    padded = torch.nn.functional.pad(x, (1, tiles * m - side + 1) * 2)
    cut = padded.unfold(2, m + 2, m).unfold(3, m + 2, m)
    products = torch.einsum("nchwij,ocij->nohwij", b @ cut @ b.T, g @ w @ g.T)
    y = (a @ products @ a.T).permute(0, 1, 2, 4, 3, 5)
    return y.reshape(n, len(w), tiles * m, tiles * m)[..., :side, :side]


def main():
    torch.manual_seed(0)
    prepared = {name: (m, transforms(m, points)) for name, (m, points) in POINTS.items()}
    print("| rms error / PyTorch's | " + " | ".join(f"{channels} channels, {side} px" for channels, side in LAYERS) + " |")
    print("|---" * (len(LAYERS) + 1) + "|")
    rows = {name: [] for name in POINTS}
    for channels, side in LAYERS:
        x = torch.relu(torch.randn(2, channels, side, side))
        w = torch.randn(channels, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
        exact = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
        error = lambda y: (y.double() - exact).square().mean().sqrt().item()
        direct = error(torch.nn.functional.conv2d(x, w, padding=1))
        for name, (m, matrices) in prepared.items():
            assert error(winograd(x.double(), w.double(), m, matrices)) < 1e-12, name
            rows[name].append(f"{error(winograd(x, w, m, matrices)) / direct:.1f}")
    for name, errors in rows.items():
        print("| " + " | ".join([name, *errors]) + " |")


if __name__ == "__main__":
    main()
