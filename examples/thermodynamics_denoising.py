"""Noisy digits: the expected clean row, against projections on principal axes and other baselines.

Run it with ``python examples/thermodynamics_denoising.py``; it takes less than a minute. With
scikit-image installed (``pip install skbae[docs]``), its non-local means are in the table, too.
"""

import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from skbae import BayesianGMMAutoEncoder, BayesianMixturePCAAutoEncoder, BayesianPCAAutoEncoder

try:
    from skimage.restoration import denoise_nl_means
except ImportError:
    denoise_nl_means = None

warnings.simplefilter("ignore")  # of border pixels that are zero in all rows
digits = load_digits().data / 16
train, test = digits[:1400], digits[1400:]
rng = np.random.default_rng(0)


def psnr(images):
    """Return the ratio of the largest signal to the error, in decibels."""
    return -10 * np.log10(np.mean((images - test) ** 2))


def projected(noisy):
    """Return the projection on as many principal axes as serve best, known from the clean rows."""
    pcas = (PCA(d).fit(train) for d in (5, 10, 15, 20, 30, 40))
    return max(psnr(each.inverse_transform(each.transform(noisy))) for each in pcas)


def non_local(noisy, sigma):
    """Return the non-local means of each image, with the best of some filter strengths."""
    values = []
    for strength in (0.6, 0.8, 1.0, 1.2):
        images = [
            denoise_nl_means(
                each.reshape(8, 8), patch_size=3, patch_distance=3, h=strength * sigma, sigma=sigma
            ).ravel()
            for each in noisy
        ]
        values.append(psnr(np.array(images)))
    return max(values)


models = {
    "PPCA": BayesianPCAAutoEncoder(30, model_temperature=0),
    "mixture of PCA": BayesianMixturePCAAutoEncoder(
        10, n_latent=12, model_temperature=0, random_state=0
    ),
    "mixture": BayesianGMMAutoEncoder(
        10, covariance_type="full", reg_covar=1e-3, model_temperature=0, random_state=0
    ),
}
for model in models.values():
    model.fit(train)

print("PSNR in dB of 397 digits that no model has seen")
print("noise   noisy    PCA   non-local   " + "   ".join(models))
for sigma in (0.1, 0.2, 0.3, 0.4, 0.5):
    noisy = test + sigma * rng.standard_normal(test.shape)
    other = f"{non_local(noisy, sigma):9.2f}" if denoise_nl_means else "        -"
    ours = [psnr(model.denoise(noisy, sigma**2)) for model in models.values()]
    shown = "   ".join(f"{each:{len(name)}.2f}" for name, each in zip(models, ours, strict=True))
    print(f"{sigma:5.1f} {psnr(noisy):7.2f} {projected(noisy):6.2f}   {other}   {shown}")
