#!/usr/bin/env python3
"""Check `sanawm eval` against independent implementations and record the result.

    python3 -m venv /tmp/eval-venv && /tmp/eval-venv/bin/pip install evo scikit-image
    /tmp/eval-venv/bin/python tests/interop/eval_reference.py build/sanawm | tee tests/interop/eval_reference.txt

The formulas of docs/evaluation.md are written here once more in NumPy, sharing nothing with the C code: 4x4 inverses and
NumPy's SVD, angles through quaternions. ATE and RPE are compared with evo itself, SSIM with scikit-image and SciPy.
Paths go through .npy files in float64, results come back through --json and --csv. Everything must agree to 1e-9
(relative to values above 1); the script ends with status 1 otherwise. evo and scikit-image are skipped where missing.
"""
import csv
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

TOLERANCE = 1e-9
# Rounding to float32 leaves matrices that are no rotations by 1e-7, and formulas for their angle part ways there.
SINGLE, SINGLE_TOLERANCE = "poses rounded to float32", 1e-6
ALIGNMENTS = ("none", "origin", "rigid", "similarity")


# ---- paths ---------------------------------------------------------------------------------------------------------

def rotation(axis, angle):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    x, y, z = axis
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def pose(r, t):
    m = np.eye(4)
    m[:3, :3], m[:3, 3] = r, t
    return m


def random_path(rng, count, step=0.1, turn=0.05):
    """A camera that wanders: every pose moves and turns a little against the one before."""
    m, out = pose(rotation(rng.normal(size=3), rng.uniform(0, 3)), rng.normal(size=3)), []
    for _ in range(count):
        out.append(m)
        m = m @ pose(rotation(rng.normal(size=3), turn * rng.normal()), step * rng.normal(size=3))
    return np.array(out)


def disturbed(rng, path, place, angle):
    noise = [pose(rotation(rng.normal(size=3), angle * rng.normal()), place * rng.normal(size=3)) for _ in path]
    return path @ np.array(noise)


def moved(rng, path, scale):
    """Another world: turned, shifted and scaled."""
    world = pose(rotation(rng.normal(size=3), rng.uniform(0, 3)), 5 * rng.normal(size=3))
    out = world @ path
    out[:, :3, 3] *= scale
    return out


def cases(rng):
    for i in range(60):
        n = int(rng.integers(2, 200))
        gt = random_path(rng, n, rng.choice([0.01, 0.1, 1.0]), rng.choice([0.01, 0.1]))
        est = moved(rng, disturbed(rng, gt, rng.choice([0, 1e-3, 0.1]), rng.choice([0, 1e-3, 0.1])),
                    rng.choice([0.1, 1, 3]))
        yield f"random {i}", est, gt
    for i in range(20):
        n = int(rng.integers(3, 50))
        yield f"unrelated {i}", random_path(rng, n, 1, 2), random_path(rng, n, 1, 2)
    gt = random_path(rng, 50)
    yield "equal", gt, gt
    still = np.repeat(gt[:1], 50, 0)
    yield "GT stays put", gt, still
    yield "EST stays put", still, gt
    yield "both stay put", still, still
    turning = still.copy()
    turning[:, :3, :3] = gt[:, :3, :3]
    yield "pure rotation", disturbed(rng, turning, 0, 0.01), turning
    yield "pure rotation, EST trembles", disturbed(rng, turning, 1e-3, 0.01), turning
    yield "one frame", gt[:1], gt[7:8]
    yield "two frames", gt[:2], gt[7:9]
    line = still.copy()
    line[:, :3, 3] += np.linspace(0, 4, 50)[:, None] * gt[0, :3, 2]
    yield "straight line", disturbed(rng, line, 0.01, 0.01), line
    yield "exact straight line", line, line
    flat = gt.copy()
    flat[:, 1, 3] = 0
    yield "plane", disturbed(rng, flat, 0.01, 0.01), flat
    yield "exact plane", moved(rng, flat, 2.5), flat
    mirror = gt.copy()
    mirror[:, 0, 3] *= -1
    yield "mirrored places", mirror, gt
    upside = gt.copy()
    upside[:, :3, 3] *= -1
    yield "inverted places", upside, gt
    # Relative rotations of half a turn about each axis: their mean has determinant -1/27.
    halves = np.array([pose(np.diag(d), rng.normal(size=3)) for d in ([1, -1, -1], [-1, 1, -1], [-1, -1, 1])])
    first = np.repeat(pose(np.eye(3), np.zeros(3))[None], 3, 0)
    yield "half turns", np.concatenate([first[:1], halves, halves, halves]), np.repeat(first, 4, 0)[:10]
    single = gt.astype(np.float32).astype(np.float64)
    yield SINGLE, disturbed(rng, single, 0.01, 0.02).astype(np.float32).astype(np.float64), single
    long = random_path(rng, 961, 0.025, 0.01)
    yield "961 frames", moved(rng, disturbed(rng, long, 0.01, 0.01), 0.7), long


# ---- the formulas, once more -----------------------------------------------------------------------------------------

def angle(a, b):
    """Radians between rotations, through the quaternion of a^T b (Shepperd's choice of the largest component)."""
    m = a.T @ b
    four = np.array([1 + np.trace(m), 1 + m[0, 0] - m[1, 1] - m[2, 2], 1 - m[0, 0] + m[1, 1] - m[2, 2],
                     1 - m[0, 0] - m[1, 1] + m[2, 2]])
    odd = np.array([[m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
                    [m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2]]])
    k = int(np.argmax(four))
    s = {0: (four[0], *odd[0]), 1: (odd[0, 0], four[1], odd[1, 0], odd[1, 1]),
         2: (odd[0, 1], odd[1, 0], four[2], odd[1, 2]), 3: (odd[0, 2], odd[1, 1], odd[1, 2], four[3])}[k]
    return 2 * np.arctan2(np.linalg.norm(s[1:]), abs(s[0]))


def clamped_angle(a, b):
    return np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))


def angle_like_sanawm(a, b):
    return angle(a, b) if np.linalg.det(a.T @ b) > 0 else clamped_angle(a, b)


def relative(path):
    """Seen from the first pose. Places are subtracted first: a camera that rests must come out at exactly zero."""
    inverse = np.linalg.inv(path[0])[:3, :3]
    out = np.repeat(np.eye(4)[None], len(path), 0)
    out[1:, :3, :3] = inverse @ path[1:, :3, :3]
    out[1:, :3, 3] = (path[1:, :3, 3] - path[0, :3, 3]) @ inverse.T
    return out


def world_to_camera(path):
    r = np.swapaxes(path[:, :3, :3], 1, 2)
    return np.concatenate([r, -np.einsum("nij,nj->ni", r, path[:, :3, 3])[:, :, None]], 2)


def sanawm(est, gt):
    gt, est = relative(gt), relative(est)
    src, tgt = world_to_camera(est), world_to_camera(gt)
    u, s, vt = np.linalg.svd(np.mean([t[:, :3].T @ r[:, :3] for t, r in zip(tgt, src)], 0))
    turn = vt.T @ u.T
    a = np.array([r[:, :3].T @ r[:, 3] for r in src])
    b = np.array([r[:, :3].T @ t[:, 3] for r, t in zip(src, tgt)])
    scale = 1.0
    if len(a) > 1:
        scale = np.mean((a - a.mean(0)) * (b - b.mean(0))) / max(np.mean((a - a.mean(0)) ** 2), 1e-9)
    shift = b.mean(0) - scale * a.mean(0)
    errors = []
    for g, r in zip(gt, src):
        wr, wt = r[:, :3] @ turn, r[:, :3] @ shift + scale * r[:, 3]
        c = np.concatenate([wr.T, -(wr.T @ wt)[:, None]], 1)
        errors.append((np.degrees(angle_like_sanawm(g[:3, :3], c[:, :3])), np.linalg.norm(c[:, 3] - g[:3, 3]),
                       np.linalg.norm(c - g[:3])))
    return np.array(errors), scale, s


def cameractrl(est, gt):
    gt, est = relative(gt), relative(est)
    reach_gt = np.linalg.norm(gt[:, :3, 3], axis=1).max() + 1e-9
    reach_est = np.linalg.norm(est[:, :3, 3], axis=1).max() + 1e-9
    out = []
    for g, e in zip(gt, est):
        def scaled(m, by):
            m = m[:3].copy()
            m[:, 3] /= by
            return m
        a, own, common = scaled(g, reach_gt), scaled(e, reach_est), scaled(e, reach_gt)
        out.append((angle(a[:, :3], own[:, :3]), np.linalg.norm(a[:, 3] - own[:, 3]), np.linalg.norm(a - own),
                    np.linalg.norm(a[:, 3] - common[:, 3]), np.linalg.norm(a - common)))
    return np.array(out)


def umeyama(x, y, with_scale):
    mx, my = x.mean(0), y.mean(0)
    cov = (y - my).T @ (x - mx) / len(x)
    u, d, vt = np.linalg.svd(cov)
    sign = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    r = u @ np.diag(sign) @ vt
    variance = np.mean(np.sum((x - mx) ** 2, 1))
    c = (d * sign).sum() / variance if with_scale and variance > 0 else 1.0
    rank = int(np.sum(d > max(np.finfo(float).eps, 1e-12 * d[0])))
    return r, my - c * r @ mx, c, rank


def absolute_and_relative(est, gt, alignment, delta):
    r, t, c, rank = np.eye(3), np.zeros(3), 1.0, 3
    if alignment == "origin":
        m = gt[0] @ np.linalg.inv(est[0])
        r, t = m[:3, :3], m[:3, 3]
    elif alignment != "none":
        r, t, c, rank = umeyama(est[:, :3, 3], gt[:, :3, 3], alignment == "similarity")
    e = est.copy()
    e[:, :3, :3] = r @ est[:, :3, :3]
    e[:, :3, 3] = c * est[:, :3, 3] @ r.T + t
    ate = np.linalg.norm(e[:, :3, 3] - gt[:, :3, 3], axis=1)
    turn = np.degrees([angle(g[:3, :3], m[:3, :3]) for g, m in zip(gt, e)])
    rpe_t, rpe_r = [], []
    for j in range(delta, len(gt), delta):
        q, p = np.linalg.inv(gt[j - delta]) @ gt[j], np.linalg.inv(e[j - delta]) @ e[j]
        m = np.linalg.inv(q) @ p
        rpe_t.append(np.linalg.norm(m[:3, 3]))
        rpe_r.append(np.degrees(angle(q[:3, :3], p[:3, :3])))
    return ate, turn if rank >= 2 else None, np.array(rpe_t), np.array(rpe_r), rank


# ---- comparison ------------------------------------------------------------------------------------------------------

class Record:
    def __init__(self):
        self.worst, self.count, self.failed = {}, {}, []

    def compare(self, what, case, ours, theirs):
        if case.startswith(SINGLE):
            what += ", float32 poses"
        ours, theirs = np.atleast_1d(np.asarray(ours, float)), np.atleast_1d(np.asarray(theirs, float))
        off = np.inf
        if ours.shape == theirs.shape:
            off = np.max(np.abs(ours - theirs) / np.maximum(1, np.abs(theirs)), initial=0)
        self.worst[what] = max(self.worst.get(what, 0), off)
        self.count[what] = self.count.get(what, 0) + 1
        if not off <= (SINGLE_TOLERANCE if case.startswith(SINGLE) else TOLERANCE):
            self.failed.append(f"{case}: {what} off by {off:.3g}")

    def table(self):
        for what in self.worst:
            print(f"  {what:<58} {self.count[what]:>5} comparisons, worst {self.worst[what]:.2e}")


def run(program, *arguments):
    done = subprocess.run([program, "eval", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def statistics(values):
    v = np.asarray(values)
    if len(v) == 0:
        return None
    return {"rmse": np.sqrt(np.mean(v ** 2)), "mean": v.mean(), "median": np.median(v), "std": v.std(),
            "min": v.min(), "max": v.max(), "count": len(v)}


def compare_statistics(record, what, case, ours, values):
    theirs = statistics(values) if values is not None else None
    if theirs is None:
        record.compare(what, case, ours["count"], 0)
        return
    record.compare(what, case, [ours[k] for k in theirs], list(theirs.values()))


def check_poses(program, folder, record, name, est, gt, delta):
    files = [os.path.join(folder, f) for f in ("est.npy", "gt.npy", "table.csv")]
    np.save(files[0], est)
    np.save(files[1], gt)
    found = json.loads(run(program, "poses", files[0], files[1], "--json", "--csv", files[2], "--delta", str(delta)))
    with open(files[2], newline="") as f:
        rows = list(csv.DictReader(f))

    def column(head):
        return [float(r[head]) for r in rows if r[head] != ""]

    errors, scale, _ = sanawm(est, gt)
    s = found["sanawm"]
    record.compare("SANA-WM RotErr, TransErr, CamMC, scale", name, [s["RotErr"], s["TransErr"], s["CamMC"], s["scale"]],
                   [*errors.mean(0), scale])
    for k, head in enumerate(("roterr_deg", "transerr", "cammc")):
        record.compare("SANA-WM, frame by frame", name, column("sanawm_" + head), errors[:, k])
    errors = cameractrl(est, gt)
    c = found["cameractrl"]
    record.compare("CameraCtrl RotErr, TransErr, CamMC, and _abs", name,
                   [c[k] for k in ("RotErr", "TransErr", "CamMC", "TransErr_abs", "CamMC_abs")], errors.sum(0))
    for k, head in enumerate(("roterr_rad", "transerr", "cammc", "transerr_abs", "cammc_abs")):
        record.compare("CameraCtrl, frame by frame", name, column("cameractrl_" + head), errors[:, k])
    for a in ALIGNMENTS:
        ate, turn, rpe_t, rpe_r, _ = absolute_and_relative(est, gt, a, delta)
        compare_statistics(record, "ATE translation", name, found["evo"][a]["ate_translation"], ate)
        compare_statistics(record, "ATE rotation", name, found["evo"][a]["ate_rotation_degrees"], turn)
        compare_statistics(record, "RPE translation", name, found["evo"][a]["rpe_translation"], rpe_t)
        compare_statistics(record, "RPE rotation", name, found["evo"][a]["rpe_rotation_degrees"], rpe_r)
        record.compare("ATE, frame by frame", name, column(f"ate_{a}_trans"), ate)
    return found


def check_evo(record, refusals, name, est, gt, found, delta):
    from evo.core import geometry, metrics, trajectory
    kinds = {"ate_translation": (metrics.APE, metrics.PoseRelation.translation_part),
             "ate_rotation_degrees": (metrics.APE, metrics.PoseRelation.rotation_angle_deg),
             "rpe_translation": (metrics.RPE, metrics.PoseRelation.translation_part),
             "rpe_rotation_degrees": (metrics.RPE, metrics.PoseRelation.rotation_angle_deg)}
    for a in ALIGNMENTS:
        reference, moving = trajectory.PosePath3D(poses_se3=list(gt)), trajectory.PosePath3D(poses_se3=list(est))
        try:
            if a == "origin":
                moving.align_origin(reference)
            elif a != "none":
                moving.align(reference, correct_scale=a == "similarity")
        except geometry.GeometryException:
            refusals.append(f"{name} ({a}, our rank {found['evo'][a]['alignment']['rank']})")
            continue
        for kind, (metric, relation) in kinds.items():
            if metric is metrics.RPE and len(gt) <= delta:
                continue
            if found["evo"][a][kind]["count"] == 0:
                continue
            m = metric(relation, delta, metrics.Unit.frames) if metric is metrics.RPE else metric(relation)
            m.process_data((reference, moving))
            theirs = m.get_all_statistics()
            ours = found["evo"][a][kind]
            record.compare("evo " + kind, f"{name} ({a})", [ours[k] for k in ("rmse", "mean", "median", "std", "min", "max")],
                           [theirs[k] for k in ("rmse", "mean", "median", "std", "min", "max")])


def write_video(folder, name, frames):
    path = os.path.join(folder, name)
    count, height, width, _ = frames.shape
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
                    "-r", "16", "-i", "-", "-c:v", "ffv1", "-pix_fmt", "gbrp", path], input=frames.tobytes(), check=True)
    return path


def check_video(program, folder, record, rng, have_skimage):
    for width, height, count in ((64, 48, 5), (33, 27, 3), (11, 11, 2), (160, 96, 4)):
        ramp = np.add.outer(np.arange(height), np.arange(width))[None, :, :, None] + 7 * np.arange(count)[:, None, None, None]
        a = (ramp * np.array([1, 2, 3]) + rng.normal(0, 8, (count, height, width, 3))).clip(0, 255).astype(np.uint8)
        b = (a + rng.normal(0, 12, a.shape)).clip(0, 255).astype(np.uint8)
        b[-1] = a[-1]
        name, table = f"{width}x{height}", os.path.join(folder, "video.csv")
        run(program, "video", write_video(folder, "a.mkv", a), write_video(folder, "b.mkv", b), "--csv", table)
        with open(table, newline="") as f:
            rows = list(csv.DictReader(f))
        x, y = a.astype(float), b.astype(float)
        mse = ((x - y) ** 2).mean((1, 2, 3))
        psnr = np.where(mse < 1e-10, 100, 10 * np.log10(255 ** 2 / np.maximum(mse, 1e-10)))
        record.compare("PSNR", name, [float(r["psnr_db"]) for r in rows], psnr)
        for head, z in (("flicker_a", x), ("flicker_b", y), ("flicker_difference", x - y)):
            record.compare("flicker", name, [float(r[head]) for r in rows[1:]], np.abs(np.diff(z, axis=0)).mean((1, 2, 3)))
        if not have_skimage:
            continue
        from scipy.ndimage import uniform_filter
        from skimage.metrics import structural_similarity
        record.compare("SSIM, Gaussian window (scikit-image)", name, [float(r["ssim"]) for r in rows],
                       [structural_similarity(p, q, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                                              data_range=255, channel_axis=2) for p, q in zip(a, b)])
        uniform = []
        for p, q in zip(x, y):
            total = 0
            for k in range(3):
                mean = [uniform_filter(v, 11) for v in (p[..., k], q[..., k], p[..., k] ** 2, q[..., k] ** 2, p[..., k] * q[..., k])]
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                va, vb, cov = mean[2] - mean[0] ** 2, mean[3] - mean[1] ** 2, mean[4] - mean[0] * mean[1]
                total += np.mean((2 * mean[0] * mean[1] + c1) * (2 * cov + c2)
                                 / ((mean[0] ** 2 + mean[1] ** 2 + c1) * (va + vb + c2))) / 3
            uniform.append(total)
        record.compare("SSIM, uniform window (SciPy)", name, [float(r["ssim_uniform"]) for r in rows], uniform)


def check_revisits(program, folder, record, rng):
    """All pairs by brute force, chosen greedily, against the program's choice."""
    for i in range(10):
        n = int(rng.integers(40, 120))
        s = np.concatenate([np.linspace(0, 1, n // 2), np.linspace(1, 0, n - n // 2)]) * rng.uniform(1, 4)
        path = np.array([pose(rotation([0, 1, 0], 0.5 * v), [0.1 * np.sin(5 * v), 0, v]) for v in s])
        path = disturbed(rng, path, 0.02, 0.01)
        np.save(os.path.join(folder, "path.npy"), path)
        frames = rng.integers(0, 256, (n, 12, 16, 3), dtype=np.uint8)
        video = write_video(folder, "revisit.mkv", frames)
        found = json.loads(run(program, "revisit", video, os.path.join(folder, "path.npy"), "--json"))
        distance = np.linalg.norm(path[:, None, :3, 3] - path[None, :, :3, 3], axis=2)
        degrees = np.degrees([[angle(a[:3, :3], b[:3, :3]) for b in path] for a in path])
        near = (distance <= 0.5) & (degrees <= 20)
        pairs = sorted((distance[p, q] / 0.5 + degrees[p, q] / 20, p, q) for p in range(n) for q in range(p + 16, n)
                       if near[p, q] and not near[p, p:q].all())
        chosen = []
        for _, p, q in pairs:
            if len(chosen) < 5 and all(abs(p - u) >= 8 or abs(q - v) >= 8 for u, v in chosen):
                chosen.append((p, q))
        record.compare("revisit pairs", f"path {i}", [v for r in found["revisits"] for v in (r["frame_a"], r["frame_b"])],
                       [v for pair in chosen for v in pair])
        x = frames.astype(float)
        record.compare("revisit PSNR", f"path {i}", [r["psnr_db"] for r in found["revisits"]],
                       [10 * np.log10(255 ** 2 / np.mean((x[p] - x[q]) ** 2)) for p, q in chosen])


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: eval_reference.py path/to/sanawm")
    program, rng, record, refusals = sys.argv[1], np.random.default_rng(5), Record(), []
    versions = {"numpy": np.__version__}
    try:
        import evo
        versions["evo"] = evo.__version__
    except ImportError:
        pass
    try:
        import skimage
        versions["scikit-image"] = skimage.__version__
    except ImportError:
        pass
    with tempfile.TemporaryDirectory() as folder:
        count = 0
        for name, est, gt in cases(rng):
            delta = int(rng.integers(1, 6))
            found = check_poses(program, folder, record, name, est, gt, delta)
            if "evo" in versions:
                check_evo(record, refusals, name, est, gt, found, delta)
            count += 1
        check_video(program, folder, record, rng, "scikit-image" in versions)
        check_revisits(program, folder, record, rng)
    print(f"sanawm eval against " + ", ".join(f"{k} {v}" for k, v in versions.items()) + f": {count} pairs of paths\n")
    record.table()
    if refusals:
        print("\nevo refuses to align, sanawm reports places only:\n  " + "\n  ".join(refusals))
    print(f"\n{len(record.failed)} beyond {TOLERANCE:g}" + "".join("\n  " + f for f in record.failed[:40]))
    sys.exit(1 if record.failed else 0)


if __name__ == "__main__":
    main()
