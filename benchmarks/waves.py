"""How far the network hears beside the matched filter: in Gaussian noise, in recorded noise of O3a, and GW150914.

    python benchmarks/waves.py --gaussian RUN --recorded RUN --data FOLDER [--hours 8] [--injections 1200]

The RUNs are of the study `gravitational-waves`, one in Gaussian noise and one with `data.source.noise` naming
the recorded noise; FOLDER holds GWOSC's files of GW150914 and MLGWSC-1's `mldc1_tutorial_real_noise.hdf`.

Both methods answer the same noise and the same injections. An event is the loudest answer of a second of noise.
Thresholds come from validation noise; what rate they have in test noise is measured. Recorded noise, and the matched
filter's Gaussian noise, are extended by time slides (Was et al. 2010). Rates that the noise does not reach are
extrapolated by the exponential tail of the events (in SNR^2, and in log odds), and said to be.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gsnn.baselines.matched_filter import MatchedFilter, loudest
from gsnn.baselines.templates import Bank, Noise, bank_of, chi_squared, coincident, filtered, reweighted
from gsnn.data.readers.windows import StrainWindows
from gsnn.data.strain import band, frequencies
from gsnn.model import Model
from gsnn.run import Run
from gsnn.simulate.binaries import BinaryMergers
from gsnn.simulate.recorded import STRETCH, Stretch
from gsnn.simulate.waveforms import Binaries

LONG = ("chirps", "times", "odds", "SNR times", "SNR of the network over time")  # in figures only
RATE, STEP = 1024, 256  # samples/s; samples from one window of the network to the next
MONTH = 30 * 86400.0
TAIL = 150  # loudest events to which the tail is fitted
FILES = ("H-H1_LOSC_4_V2-1126259446-32.hdf5", "L-L1_LOSC_4_V2-1126259446-32.hdf5")
CENTRES = np.geomspace(30, 400, 90)
RESULT = Path(__file__).parent / "results" / "waves.json"


# ---------------------------------------------------------------------- the two methods on streams [detector, time]


def odds(model: Model, windows: Tensor) -> np.ndarray:
    """log p(signal) / p(noise) of whitened windows [object, detector, time]."""
    with torch.inference_mode():
        found = model({"strain": windows.float(), "row": torch.arange(len(windows))})["kind"].probabilities
    signal = found.shape[1] - 1
    return np.log(np.maximum(found[:, signal], 1e-300)) - np.log(np.maximum(found[:, 0], 1e-300))


def network_events(model: Model, strain: Tensor) -> np.ndarray:
    """The loudest answer of each second of a stream, over the windows that begin in it."""
    windows = strain.unfold(1, RATE, STEP).transpose(0, 1)
    seconds = (len(windows) * STEP) // RATE
    answers = np.concatenate([odds(model, windows[i : i + 512]) for i in range(0, len(windows), 512)])
    return answers[: seconds * RATE // STEP].reshape(seconds, -1).max(1)


def powers(strain: Tensor, bank: Bank, veto: bool = False) -> Tensor:
    """Squared signal-to-noise, [template, detector, time], in blocks of the bank's length (16 s).

    The first three seconds and the last of a block, where templates wrap round, are left to its neighbours. With
    ``veto`` what is louder than 5.5 sigma in a detector is taken down by chi-squared, as in a search.
    """
    before, after = 3 * RATE, RATE
    hop, out = bank.length - before - after, []
    for start in range(0, strain.shape[1] - bank.length + 1, hop):
        block = strain[:, start : start + bank.length]
        power = filtered(block, bank).abs() ** 2
        if veto:
            vetoed(power, block, bank)
        out.append(power[..., before:-after])
    return torch.cat(out, -1)


def vetoed(power: Tensor, strain: Tensor, bank: Bank) -> None:
    spectrum = torch.fft.rfft(strain.float())
    for i in range(len(strain)):
        template, sample = (power[:, i] > 5.5**2).nonzero(as_tuple=True)
        for some in torch.arange(len(template)).split(64):
            k, at = template[some], sample[some]
            chi = chi_squared(spectrum[i], bank.spectra[k, i], at, 8)
            power[k, i, at] = reweighted(power[k, i, at].sqrt(), chi) ** 2


def slid_events(first: Tensor, second: Tensor, shifts: list[int]) -> list[np.ndarray]:
    """The loudest sum of two detectors' SNR^2 (of the second: the largest within the light's travel) in each second."""
    seconds, out = first.shape[1] // RATE, []
    for shift in shifts:
        total = (first + second.roll(shift, -1)).amax(0)
        out.append(total[: seconds * RATE].view(seconds, RATE).amax(1).numpy())
    return out


def nearby(power: Tensor) -> Tensor:
    """The largest of [template, time] within the light's travel between the detectors."""
    return coincident(torch.stack([torch.zeros_like(power), power], 1), RATE)[0]


# ---------------------------------------------------------------------- noise


def shifts(length: int) -> list[int]:
    """Every whole second but those at which both detectors hear nearly the same."""
    return list(range(2 * RATE, length - 2 * RATE, RATE))


def gaussian_stream(seconds: int, seed: int, low: float) -> Tensor:
    drawn = torch.randn(2, seconds * RATE, generator=torch.Generator().manual_seed(seed))
    shape = band(frequencies(seconds * RATE, RATE), low, 0.4 * RATE).float()
    return torch.fft.irfft(torch.fft.rfft(drawn) * shape, n=seconds * RATE)


def gaussian_background(
    model: Model, bank: Callable[[int], Bank], low: float, hours: float, seed: int
) -> dict[str, tuple[np.ndarray, float]]:
    """Events and seconds of the network (a stream of its own for every 100 s) and the matched filter (with slides)."""
    network, whole = [], int(hours * 36)
    for k in range(whole):
        network.append(network_events(model, gaussian_stream(100, seed + k, low)))
    events, templates = [], bank(16 * RATE)
    for k in range(max(whole // 80, 1)):
        power = powers(gaussian_stream(100, seed + 10_000 + k, low), templates)
        events += slid_events(power[:, 0], nearby(power[:, 1]), shifts(power.shape[2]))
    loud = {"network": np.concatenate(network), "matched filter": np.concatenate(events)}
    return {name: (values, float(len(values))) for name, values in loud.items()}


def recorded_background(
    model: Model, noise: Stretch, bank: Callable[[int], Bank]
) -> dict[str, tuple[np.ndarray, float]]:
    """The record beside itself, slid by every whole second: what two detectors of that noise would see by chance."""
    good = torch.isfinite(noise.white)
    strain = noise.white[good].float()
    power = powers(torch.stack([strain, strain]), bank(16 * RATE), veto=True)
    filter_ = slid_events(power[:, 0], nearby(power[:, 1]), shifts(power.shape[2]))
    network = [network_events(model, torch.stack([strain, strain.roll(k)])) for k in shifts(len(strain))]
    loud = {"network": np.concatenate(network), "matched filter": np.concatenate(filter_)}
    return {name: (values, float(len(values))) for name, values in loud.items()}


# ---------------------------------------------------------------------- thresholds and what they cost


def threshold(events: np.ndarray, seconds: float, rate: float) -> tuple[float, bool]:
    """The loudness that ``rate`` events a second exceed, and whether it is extrapolated (fewer than five exceed it)."""
    loud = np.sort(events)[::-1]
    wanted = rate * seconds
    if wanted >= 5:
        return float(loud[int(wanted)]), False
    tail = min(TAIL, len(loud) // 4)
    start = loud[tail]
    return float(start + (loud[:tail] - start).mean() * math.log(tail / wanted)), True


def injections(survey: BinaryMergers, model: Model, bank: Bank, veto: bool) -> dict[str, np.ndarray]:
    """What both methods say of signals in two seconds of noise."""
    found: dict[str, list[np.ndarray]] = {"network": [], "matched filter": []}
    truth: dict[str, list[np.ndarray]] = {"snr": [], "distance": [], "chirp_mass": []}
    for first in range(0, len(survey), 64):
        batch = survey.rows(np.arange(first, min(first + 64, len(survey))), 4242)
        test = np.array(batch["part"].to_pylist()) == "test"
        flat = np.array(batch["strain"].flatten()).reshape(len(batch), 2, -1)[test]
        if not len(flat):
            continue
        strain = torch.from_numpy(flat)
        windows = strain.unfold(2, RATE, STEP).permute(0, 2, 1, 3)
        answers = odds(model, windows.reshape(-1, 2, RATE)).reshape(len(strain), -1)
        found["network"].append(answers.max(1))
        loud = [loudest(x, bank)[int(veto)].item() ** 2 for x in strain]
        found["matched filter"].append(np.array(loud))
        for name in truth:
            truth[name].append(np.array(batch[name].to_pylist(), float)[test])
    return {name: np.concatenate(parts) for name, parts in (found | truth).items()}


def wilson(hits: np.ndarray) -> list[float]:
    """Share, and its 95% interval (Wilson 1927)."""
    n, p, z = max(len(hits), 1), float(hits.mean()) if len(hits) else 0.0, 1.96
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return [p, max(middle - half, 0), min(middle + half, 1)]


def reach(told: dict[str, np.ndarray], cuts: dict[str, float], high: float) -> dict[str, list[float]]:
    """Sensitive distance as a share of the matched filter's, with the 95% interval of resampled injections.

    A binary at distance D has SNR proportional to 1 / D, so injections uniform in SNR are weighed by rho^-4 times the
    cube of the distance at SNR 1 to be uniform in space; beyond the loudest injected SNR both methods find everything.
    """
    unit = (told["snr"] * told["distance"]) ** 3
    width = high - told["snr"].min()
    rng, share = np.random.default_rng(0), []
    for k in range(400):
        some = rng.integers(0, len(unit), len(unit)) if k else np.arange(len(unit))
        volume = {}
        for name, cut in cuts.items():
            hit = told[name][some] > cut
            volume[name] = (unit[some] * (hit * told["snr"][some] ** -4.0 * width + high**-3.0 / 3)).mean()
        share.append((volume["network"] / volume["matched filter"]) ** (1 / 3))
    return {"share of the matched filter's distance": [share[0], *np.percentile(share[1:], [2.5, 97.5]).tolist()]}


def judged(valid: dict, test: dict, told: dict[str, np.ndarray], rates: dict[str, float], high: float) -> dict:
    """For each false-alarm rate: thresholds, the rate they have in test noise, efficiency by SNR, distance."""
    edges, out = np.arange(4, 20.1, 1), {}
    for label, rate in rates.items():
        cuts, one = {}, {}
        for name in ("network", "matched filter"):
            cut, guessed = threshold(*valid[name], rate)
            events, seconds = test[name]
            louder = int((events > cut).sum())
            cuts[name] = cut
            hits = told[name] > cut
            curve = [wilson(hits[(told["snr"] >= a) & (told["snr"] < b)]) for a, b in pairwise(edges)]
            half = np.interp(0.5, np.maximum.accumulate([c[0] for c in curve]), (edges[1:] + edges[:-1]) / 2)
            one[name] = {
                "threshold": cut, "extrapolated": guessed, "test events above": louder, "test seconds": seconds,
                "events expected": rate * seconds, "efficiency": curve, "SNR at half": float(half),
            }  # fmt: skip
        out[label] = {**one, **reach(told, cuts, high)}
    return {"edges": edges.tolist(), "rates": out}


# ---------------------------------------------------------------------- GW150914


def event(model: Model, folder: Path, binaries: Binaries) -> dict:
    """The answers of both over the 32 s of GW150914."""
    source = StrainWindows(path=[str(folder / name) for name in FILES], step=1 / 16)
    noise = Noise(source.density, 1 / STRETCH, RATE, source.low, 0.4 * RATE)
    strain = torch.nan_to_num(source.white)
    power = filtered(strain, bank_of(binaries, noise, strain.shape[1])).abs() ** 2
    total, others = coincident(power, RATE)
    best, sample = total.max(-1)
    k = int(best.argmax())
    at = int(sample[k])
    starts = np.arange(len(source))
    answers = odds(model, strain.unfold(1, RATE, source.stride).transpose(0, 1)[: len(source)])
    usable = np.isfinite(
        np.stack([source.white[:, s * source.stride : s * source.stride + RATE].sum() for s in starts])
    )
    times = source.start + starts * source.stride / RATE + 0.75  # where a merger stands in the windows of training
    loud = np.where(usable, answers, -np.inf)
    merger = source.start + at / RATE
    away = usable & (np.abs(times - merger) > 1.5)
    return {
        "GPS": merger, "SNR H1": power[k, 0, at].sqrt().item(),
        "SNR L1": power[k, 1, others[k, 0, at]].sqrt().item(), "network SNR": math.sqrt(best.max()),
        "masses": [float(binaries.mass_1[k]), float(binaries.mass_2[k])], "network log odds": float(loud.max()),
        "at GPS": float(times[loud.argmax()]), "loudest elsewhere": float(answers[away].max()),
        "times": (times - merger).tolist(), "odds": np.where(usable, answers, np.nan).tolist(),
        "SNR of the network over time": total.amax(0).sqrt()[:: RATE // 64].tolist(),
        "SNR times": ((np.arange(0, strain.shape[1], RATE // 64)) / RATE + source.start - merger).tolist(),
        "chirps": chirps(strain)[..., at - RATE // 2 : at + RATE // 4 : 4],
    }  # fmt: skip


def chirps(strain: Tensor, quality: float = 6.0) -> np.ndarray:
    """Energy over the mean in time and frequency, [detector, frequency, time]: Gaussians in frequency of width
    f / ``quality`` (a constant-Q transform, as Chatterji et al. 2004 draw glitches), f from 30 to 400 Hz.
    """
    spectrum, f = torch.fft.fft(strain.double()), torch.fft.fftfreq(strain.shape[1], 1 / RATE, dtype=torch.float64)
    rows = [torch.fft.ifft(spectrum * torch.exp(-0.5 * ((f - c) * quality / c) ** 2)).abs() ** 2 for c in CENTRES]
    energy = torch.stack(rows, 1)
    return (energy / energy.median(-1, keepdim=True).values * math.log(2)).numpy()


# ---------------------------------------------------------------------- all of it


def noise_of(survey: BinaryMergers, part: int) -> Noise:
    known, step = survey._densities(part)
    return Noise(torch.stack(known), step, RATE, survey.low, 0.4 * RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gaussian", required=True)
    parser.add_argument("--recorded")
    parser.add_argument("--data")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--injections", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--figures", type=Path, default=Path(__file__).parents[1] / "docs/images")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begin, high = time.time(), 20.0
    result: dict = {"python": platform.python_version(), "torch": torch.__version__, "hours": asked.hours}
    common = {"signals": 1.0, "seconds": 2.0, "merger": (0.7, 0.8), "snr": (4.0, high)}

    run = Run(asked.gaussian)
    model, made = run.model.eval(), run.model.inputs.provenance
    baseline = MatchedFilter(run.model.inputs, run.model.targets["kind"])
    binaries = baseline.bank.binaries
    result["templates"] = len(binaries)
    low, masses, spin = made["band_hz"][0], tuple(made["masses_msun"]), made["spin"]
    survey = BinaryMergers(objects=asked.injections, masses=masses, spin=spin, low=low, parts=(0.0, 0.0, 1.0), **common)

    def bank(length: int) -> Bank:
        return bank_of(binaries, noise_of(survey, 2), length)

    valid, test = (gaussian_background(model, bank, low, asked.hours, seed) for seed in (1000, 500_000))
    told = injections(survey, model, bank(4 * RATE), veto=False)
    rates = {"10 an hour": 10 / 3600, "1 an hour": 1 / 3600, "1 a day": 1 / 86400, "1 a month": 1 / MONTH}
    result["gaussian"] = judged(valid, test, told, rates, high)
    result["gaussian"]["injections"] = len(told["snr"])
    keep(asked.out, result, begin)

    asked.figures.mkdir(parents=True, exist_ok=True)
    draw_efficiency(result, asked.figures / "waves-efficiency.png")
    if asked.data:
        result["GW150914"] = event(model, Path(asked.data), binaries)
        draw_event(result["GW150914"], asked.figures / "waves-gw150914.png")
        keep(asked.out, result, begin)
    if asked.data:
        trained = {"recorded": Run(asked.recorded).model.eval()} if asked.recorded else {}
        path = str(Path(asked.data) / "mldc1_tutorial_real_noise.hdf")
        parts = (0.6, 0.2, 0.2)
        survey = BinaryMergers(
            objects=5 * asked.injections, masses=masses, spin=spin, low=low, noise=path, parts=parts, **common
        )

        def bank_in(part: int) -> Callable[[int], Bank]:
            return lambda length: bank_of(binaries, noise_of(survey, part), length)

        for kind, network in {**trained, "recorded, trained in Gaussian noise": model}.items():
            valid, test = (recorded_background(network, survey._recorded[k][0], bank_in(k)) for k in (1, 2))
            told = injections(survey, network, bank_in(2)(4 * RATE), veto=True)
            result[kind] = judged(valid, test, told, {k: rates[k] for k in ("10 an hour", "1 an hour")}, high)
            result[kind]["injections"] = len(told["snr"])
            keep(asked.out, result, begin)
        if trained:
            answer = event(trained["recorded"], Path(asked.data), binaries)
            result["GW150914, trained in recorded noise"] = answer
        draw_efficiency(result, asked.figures / "waves-efficiency.png")
    keep(asked.out, result, begin)


# ---------------------------------------------------------------------- figures


def draw_efficiency(result: dict, path: Path) -> None:
    """Share of the signals found against their signal-to-noise, a panel for each kind of noise."""
    from gsnn.report.theme import figure, style

    kinds = [kind for kind in ("gaussian", "recorded") if kind in result]
    titles = {"gaussian": "Gaussian noise", "recorded": "noise of O3a"}
    with style():
        page = figure(3.6 * len(kinds), 3.1)
        for i, kind in enumerate(kinds):
            axes = page.add_subplot(1, len(kinds), i + 1)
            edges = np.array(result[kind]["edges"])
            middle, rates = (edges[1:] + edges[:-1]) / 2, result[kind]["rates"]
            shown = [name for name in ("1 an hour", "1 a month") if name in rates]
            for rate, line in zip(shown, ("-", "--")):
                for method, colour in (("matched filter", "#888888"), ("network", "#1f6fb4")):
                    value, low, high = np.array(rates[rate][method]["efficiency"]).T
                    axes.plot(middle, value, line, color=colour, label=f"{method}, {rate}")
                    axes.fill_between(middle, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.set(xlabel="optimal signal-to-noise of the network", ylim=(0, 1.02), xlim=(4, 16), title=titles[kind])
            if not i:
                axes.set_ylabel("share of the signals found")
            axes.legend(loc="lower right", fontsize=7)
        page.savefig(path, dpi=200)


def draw_event(told: dict, path: Path) -> None:
    """GW150914 in time and frequency, and what both methods say of every moment of the 32 s."""
    from gsnn.report.theme import figure, style

    chirp = told["chirps"]
    seconds = np.linspace(-0.5, 0.25, chirp.shape[-1])
    with style():
        page = figure(7.2, 4.6)
        grid = page.add_gridspec(2, 2, height_ratios=(1.5, 1))
        for i, name in enumerate(("H1", "L1")):
            axes = page.add_subplot(grid[0, i])
            axes.pcolormesh(
                seconds, CENTRES, chirp[i], vmin=0, vmax=25, cmap="viridis", shading="nearest", rasterized=True
            )
            axes.set(
                yscale="log", title=name, xlabel="seconds from the merger", yticks=[50, 100, 200, 400], ylim=(30, 400)
            )
            axes.set_yticklabels(["50", "100", "200", "400"])
            axes.minorticks_off()
            if not i:
                axes.set_ylabel("Hz")
        axes = page.add_subplot(grid[1, :])
        axes.plot(told["times"], told["odds"], color="#1f6fb4", label="network: log odds")
        axes.set(xlabel="seconds from the merger", ylabel="log odds of the network")
        other = axes.twinx()
        other.plot(told["SNR times"], told["SNR of the network over time"], color="#888888", linewidth=0.7, zorder=0)
        other.set_ylabel("matched filter: SNR")
        page.savefig(path, dpi=200)


def keep(path: Path, result: dict, begin: float) -> None:
    result = {k: {n: w for n, w in v.items() if n not in LONG} if isinstance(v, dict) else v for k, v in result.items()}
    result["wall seconds"] = round(time.time() - begin, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
