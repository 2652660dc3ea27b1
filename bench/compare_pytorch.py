"""sana-wm.c and PyTorch side by side on the CPU: the same weights, inputs and number of threads, one run, taking turns.

Both sides stay loaded; each round runs ours, theirs, theirs, ours, so that a machine that slows down slows both. Results
are compared before anything is timed. A row per stage and side goes to bench/results/<machine>.csv.
Run through `make bench-pytorch`; bench/README.md says what Python needs.
"""

import argparse
import csv
import datetime
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
stages = ("denoise", "decode", "encode")


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--worker", required=True, help="our side, build/bench-worker")
    p.add_argument("--model", default=root / "models/toyworld", type=pathlib.Path)
    p.add_argument("--threads", default=os.cpu_count(), type=int)
    p.add_argument("--rounds", default=10, type=int, help="of ours, theirs, theirs, ours [10]")
    p.add_argument("--stages", default=",".join(stages))
    p.add_argument("--no-csv", action="store_true", help="print only")
    return p.parse_args()


options = arguments()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)

import diffusers  # noqa: E402  (after the number of threads is settled)
import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

sys.dont_write_bytecode = True  # nothing but results is left in the tree
sys.path.insert(0, str(root / "bench"))
from pytorch_reference import Transformer  # noqa: E402


# ---- theirs -----------------------------------------------------------------------------------------------------------


def their_stages(model, inputs):
    """name -> function of nothing that runs the stage and returns its result as our side writes it."""
    dit = Transformer(model / "dit/toyworld.safetensors")
    tokens = 16
    mask = torch.zeros(tokens)
    mask[0] = 1
    dit.prepare(inputs["conditions"], inputs["plucker"], torch.zeros(tokens, 64), mask)
    timesteps = torch.full((inputs["latent"].shape[1],), 1000.0)
    timesteps[0] = 0

    vae = diffusers.AutoencoderKLLTX2Video.from_pretrained(model / "vae", torch_dtype=torch.float32).eval()
    shape = (1, -1, 1, 1, 1)
    latent = inputs["latent"][None]
    latent = latent * vae.latents_std.float().view(shape) / vae.config.scaling_factor + vae.latents_mean.float().view(shape)
    video = inputs["picture"].permute(3, 0, 1, 2)[None].contiguous()

    @torch.inference_mode()
    def decode():
        return vae.decode(latent, return_dict=False)[0]

    @torch.inference_mode()
    def encode():
        return vae.encode(video, return_dict=False)[0].mode()

    rows = lambda x: x[0].permute(1, 2, 3, 0)
    return {
        "denoise": (lambda: dit.forward(inputs["latent"], timesteps), lambda v: v),
        "decode": (decode, rows),
        "encode": (encode, rows),
    }


# ---- ours -------------------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, program, model, inputs, results, threads):
        command = [program, str(model), str(inputs), str(results), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer("ready")

    def answer(self, expected=None):
        line = self.process.stdout.readline().strip()
        if not line or (expected and line != expected):
            sys.exit(f"{self.process.args[0]} stopped or answered {line!r}")
        return line

    def seconds(self, stage):
        self.process.stdin.write(stage + "\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---- the race ---------------------------------------------------------------------------------------------------------


def timed(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# Threads of the side that has just run spin for a while before they sleep; the other side starts after that.
pause = 0.05


def race(worker, stage, function, rounds):
    """Seconds of ours and theirs, 2 * rounds each."""
    ours = lambda: (time.sleep(pause), worker.seconds(stage))[1]
    theirs = lambda: (time.sleep(pause), timed(function))[1]
    for _ in range(2):
        ours(), theirs()
    a, b = [], []
    for _ in range(rounds):
        a.append(ours())
        b.append(theirs())
        b.append(theirs())
        a.append(ours())
    return a, b


def machine():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)
    return name.group(1).strip() if name else "unknown CPU"


def commit():
    git = lambda *words: subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True).stdout.strip()
    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "src", "bench") else "")


def write_rows(rows):
    path = root / "bench/results" / (re.sub(r"[^a-z0-9]+", "-", f"{machine()} {os.cpu_count()}".lower()).strip("-") + ".csv")
    path.parent.mkdir(exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerows(rows)
    print(f"appended to {path.relative_to(root)}")


def main():
    torch.set_num_threads(options.threads)
    reference = load_file(options.model / "demo/reference.safetensors")
    latent = reference["noise"][0].clone()
    latent[:, 0] = reference["first_latent"][0, :, 0]
    inputs = {"latent": latent, "conditions": reference["camera_conditions"], "plucker": reference["chunk_plucker"],
              "picture": (reference["image"].float() / 127.5 - 1)[None]}
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    theirs = their_stages(options.model, inputs)
    print(f"{machine()}, {options.threads} threads, {versions}; load {os.getloadavg()[0]:.1f}")
    distance = lambda a, b: float((a - b).norm() / b.norm())
    print(f"PyTorch's first velocity against the model's reference run: {distance(theirs['denoise'][0](), reference['velocity_first_step'][0]):.1e}")

    rows, failed = [], False
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        save_file({name: t.contiguous() for name, t in inputs.items()}, place / "inputs.safetensors")
        worker = Worker(options.worker, options.model, place / "inputs.safetensors", place, options.threads)
        print(f"{'stage':8} {'difference':>10} {'ours':>10} {'PyTorch':>10} {'ratio':>6}   {'best':>10} {'best':>10} {'ratio':>6}")
        for stage in options.stages.split(","):
            function, arrange = theirs[stage]
            expected = arrange(function())
            result = torch.from_numpy(np.fromfile(place / f"{stage}.f32", np.float32)).view(expected.shape)
            difference = distance(result, expected)
            failed |= not difference < 1e-4
            a, b = race(worker, stage, function, options.rounds)
            ma, mb = statistics.median(a), statistics.median(b)
            print(f"{stage:8} {difference:10.1e} {ma * 1e3:7.1f} ms {mb * 1e3:7.1f} ms {mb / ma:6.2f}   "
                  f"{min(a) * 1e3:7.1f} ms {min(b) * 1e3:7.1f} ms {min(b) / min(a):6.2f}")
            for side, seconds in (("sana-wm.c", a), ("pytorch", b)):
                rows.append({
                    "date": datetime.date.today().isoformat(), "machine": machine(), "threads": options.threads,
                    "commit": commit(), "stage": stage, "side": side, "median_ms": f"{statistics.median(seconds) * 1e3:.2f}",
                    "best_ms": f"{min(seconds) * 1e3:.2f}", "runs": len(seconds), "difference": f"{difference:.1e}",
                    "load": f"{os.getloadavg()[0]:.1f}", "versions": versions,
                })
        worker.close()
    print("ratio: PyTorch's time over ours, above 1 when ours is faster; difference: relative L2 of the results")
    if not options.no_csv:
        write_rows(rows)
    if failed:
        sys.exit("results differ by more than 1e-4")


if __name__ == "__main__":
    main()
