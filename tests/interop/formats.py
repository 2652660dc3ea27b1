#!/usr/bin/env python3
"""Camera path formats against programs that are not ours: Debian's COLMAP and evo.

    tests/interop/formats.py --sanawm build/sanawm [--colmap colmap] [--store] [--record FILE.md]

Needs numpy and evo (`python3 -m venv V && V/bin/pip install evo`) and, for the COLMAP part, a `colmap` program
(`apt-get install colmap`, or `apt-get download` and `dpkg -x` of it and its libraries into a directory given with
--colmap-root). Every check writes poses with one program and reads them with the other, and compares with poses computed
here. --store keeps COLMAP's files for the everyday tests (tests/interop/stored), --record writes the results as Markdown.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
WIDTH, HEIGHT = 640, 360
LENS = np.array([800.0, 800.0, 320.0, 180.0])
results = []


def check(what, error, limit):
    results.append((what, float(error), limit, error <= limit))
    print(f"{'ok    ' if error <= limit else 'FAILED'} {what}: {error:.3g} (at most {limit:g})")


def hand_poses():
    """Camera to world, OpenCV axes; the poses of tests/test_formats.c."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[1, :3] = [[-1, 0, 0, 1], [0, 1, 0, 0], [0, 0, -1, 0]]
    poses[2, :3] = [[1, 0, 0, 0], [0, 0, 1, -2], [0, -1, 0, 0]]
    poses[3, :3] = [[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 3]]
    poses[4, :3] = [[c, -s, 0, -0.25], [s, c, 0, 0.5], [0, 0, 1, 1.5]]
    return poses


def wandering_poses(count=200, seed=7):
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    pose = np.eye(4)
    for i in range(count):
        axis = random.normal(size=3)
        axis /= np.linalg.norm(axis)
        angle = random.uniform(0, 0.4)
        k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        step = np.eye(4)
        step[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
        step[:3, 3] = random.normal(size=3)
        pose = pose @ step
        u, _, v = np.linalg.svd(pose[:3, :3])
        pose[:3, :3] = u @ v
        poses[i] = pose
    return poses


class Interop:
    def __init__(self, arguments):
        self.sanawm = str(Path(arguments.sanawm).resolve())
        self.environment = dict(os.environ, LC_ALL="C", QT_QPA_PLATFORM="offscreen")
        self.colmap = arguments.colmap
        if arguments.colmap_root:
            root = Path(arguments.colmap_root).resolve()
            self.colmap = str(root / "usr/bin/colmap")
            libraries = [root / "usr/lib/x86_64-linux-gnu"]
            libraries += [p for p in (root / "usr/lib/x86_64-linux-gnu").glob("*") if p.is_dir()]
            self.environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
        self.work = Path(tempfile.mkdtemp(prefix="swm-interop-"))

    def run(self, *command):
        done = subprocess.run([str(c) for c in command], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def convert(self, source, target, *options):
        self.run(self.sanawm, "camera", "convert", source, target, "--quiet", *options)
        return target


def quaternion_matrix(w, x, y, z):
    return np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                     [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                     [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def read_colmap_text(directory):
    """Our reading of the text that COLMAP itself wrote: camera to world by image name, and the first camera."""
    rows = [l for l in (directory / "images.txt").read_text().split("\n") if not l.startswith("#")]
    poses = {}
    for row in rows[::2]:
        if not row.strip():
            continue
        f = row.split()
        pose = np.eye(4)
        pose[:3, :3] = quaternion_matrix(*map(float, f[1:5]))
        pose[:3, 3] = list(map(float, f[5:8]))
        poses[f[9]] = np.linalg.inv(pose)
    camera = [l for l in (directory / "cameras.txt").read_text().split("\n") if l and not l.startswith("#")][0].split()
    return np.array([poses[n] for n in sorted(poses)]), camera


def with_colmap(t, poses, name):
    source = t.work / f"{name}.npy"
    for kind in "text", "binary":
        ours = t.convert(source, t.work / f"{name}-{kind}", "--to", f"colmap-{kind}", "--size", f"{WIDTH}x{HEIGHT}",
                         "--fov", str(np.degrees(2 * np.arctan(WIDTH / 2 / LENS[0]))))
        report = t.run(t.colmap, "model_analyzer", "--path", ours)
        numbers = {k.strip(): v.strip() for k, _, v in (l.partition(":") for l in report.splitlines())}
        check(f"COLMAP model_analyzer counts {name}, {kind}: cameras",
              abs(int(numbers.get("Cameras", -1)) - 1), 0)
        check(f"COLMAP model_analyzer counts {name}, {kind}: registered images",
              abs(int(numbers.get("Registered images", -1)) - len(poses)), 0)
        for to in "TXT", "BIN":
            theirs = t.work / f"{name}-{kind}-{to}"
            theirs.mkdir()
            t.run(t.colmap, "model_converter", "--input_path", ours, "--output_path", theirs, "--output_type", to)
            back = np.load(t.convert(theirs, t.work / "back.npy"))
            check(f"{name}: ours {kind}, COLMAP to {to}, ours again", np.abs(back - poses).max(),
                  1e-6 if to == "BIN" else 1e-5)
            if to == "TXT":
                read, camera = read_colmap_text(theirs)
                check(f"{name}: ours {kind}, COLMAP to TXT, read by numpy", np.abs(read - poses).max(), 1e-5)
                check(f"{name}: ours {kind}, COLMAP to TXT, camera",
                      np.abs(np.array(camera[2:8], float) - [WIDTH, HEIGHT, *LENS]).max(), 1e-5)
    return t.work / f"{name}-text-BIN", t.work / f"{name}-binary-TXT"


def with_evo(t, poses, name):
    from evo.core import metrics
    from evo.core.trajectory import PoseTrajectory3D
    from evo.tools import file_interface
    source = t.work / f"{name}.npy"
    times = np.arange(len(poses)) / 16
    ours = t.convert(source, t.work / f"{name}.tum", "--in-fps", "16")
    read = file_interface.read_tum_trajectory_file(str(ours))
    check(f"{name}: our TUM read by evo", np.abs(np.array(read.poses_se3) - poses).max(), 1e-5)
    check(f"{name}: our TUM read by evo, times", np.abs(read.timestamps - times).max(), 1e-9)
    ours = t.convert(source, t.work / f"{name}.kitti")
    read_kitti = file_interface.read_kitti_poses_file(str(ours))
    check(f"{name}: our KITTI read by evo", np.abs(np.array(read_kitti.poses_se3) - poses).max(), 1e-5)
    truth = PoseTrajectory3D(poses_se3=list(poses), timestamps=times)
    file_interface.write_tum_trajectory_file(str(t.work / "evo.tum"), truth)
    file_interface.write_kitti_poses_file(str(t.work / "evo.kitti"), truth)
    for kind in "tum", "kitti":
        back = np.load(t.convert(t.work / f"evo.{kind}", t.work / "back.npy", "--from", kind))
        check(f"{name}: evo's {kind.upper()} read by us", np.abs(back - poses).max(), 1e-5)
    ape = metrics.APE(metrics.PoseRelation.full_transformation)
    ape.process_data((truth, read))
    check(f"{name}: evo's APE between the path and our TUM", ape.get_statistic(metrics.StatisticsType.max), 1e-5)


def with_numpy(t, poses, name):
    """Formats without a program of their own here, read by the definition of each."""
    source = t.work / f"{name}.npy"
    options = ["--size", f"{WIDTH}x{HEIGHT}", "--fov", str(np.degrees(2 * np.arctan(WIDTH / 2 / LENS[0])))]
    flip = np.diag([1.0, -1, -1, 1])
    for kind in "nerfstudio", "instant-ngp", "blender":
        file = t.convert(source, t.work / "t.json", "--to", kind, *options)
        data = json.loads(file.read_text())
        read = np.array([f["transform_matrix"] for f in data["frames"]]) @ flip
        check(f"{name}: our {kind} read by its definition", np.abs(read - poses).max(), 1e-6)
        focal = data.get("fl_x", data["w"] / 2 / np.tan(data.get("camera_angle_x", 1) / 2))
        check(f"{name}: our {kind}, focal length", abs(focal - LENS[0]), 1e-6)
    file = t.convert(source, t.work / "re10k.txt", "--to", "realestate10k", *options)
    rows = np.array([list(map(float, l.split())) for l in file.read_text().splitlines()[1:]])
    w2c = np.tile(np.eye(4), (len(rows), 1, 1))
    w2c[:, :3] = rows[:, 7:].reshape(-1, 3, 4)
    check(f"{name}: our RealEstate10K read by its definition", np.abs(np.linalg.inv(w2c) - poses).max(), 1e-5)
    check(f"{name}: our RealEstate10K, intrinsics",
          np.abs(rows[:, 1:5] * [WIDTH, HEIGHT, WIDTH, HEIGHT] - LENS).max(), 1e-5)
    npz = np.load(t.convert(source, t.work / "p.npz", *options))
    check(f"{name}: our .npz read by numpy", np.abs(npz["c2w"] - poses).max(), 1e-6)
    check(f"{name}: our .npz, intrinsics, fps, num_frames",
          np.abs(npz["intrinsics"][:, [0, 1, 0, 1], [0, 1, 2, 2]] - LENS).max()
          + abs(float(npz["fps"]) - 16) + abs(int(npz["num_frames"]) - len(poses)), 1e-6)
    np.savez_compressed(t.work / "numpy.npz", c2w=poses, intrinsics=np.array([[800, 0, 320], [0, 800, 180], [0, 0, 1.0]]))
    back = np.load(t.convert(t.work / "numpy.npz", t.work / "back.npy"))
    check(f"{name}: numpy's .npz read by us", np.abs(back - poses).max(), 1e-6)


def record(path, t):
    versions = [f"numpy {np.__version__}"]
    import importlib.metadata
    versions.append(f"evo {importlib.metadata.version('evo')}")
    if t.colmap:
        first = t.run(t.colmap, "help").strip().splitlines()[0]
        versions.append(first.split(" -- ")[0])
    lines = ["# Camera path formats against other programs", "", "Made by `tests/interop/formats.py` with "
             + ", ".join(versions) + ".", "", "| check | largest difference | allowed |", "|---|---|---|"]
    lines += [f"| {w}{'' if ok else ' **FAILED**'} | {e:.3g} | {l:g} |" for w, e, l, ok in results]
    Path(path).write_text("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanawm", required=True)
    parser.add_argument("--colmap", default=shutil.which("colmap"))
    parser.add_argument("--colmap-root", help="directory that the Debian packages were unpacked into")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--record")
    arguments = parser.parse_args()
    t = Interop(arguments)
    try:
        for name, poses in ("by hand", hand_poses()), ("wandering", wandering_poses()):
            np.save(t.work / f"{name}.npy", poses)
            if t.colmap:
                binary, text = with_colmap(t, poses, name)
                if arguments.store and name == "by hand":
                    for kind, source in ("binary", binary), ("text", text):
                        target = HERE / "stored" / f"colmap-{kind}"
                        shutil.rmtree(target, ignore_errors=True)
                        shutil.copytree(source, target)
            else:
                print("no colmap program: left out")
            with_evo(t, poses, name)
            with_numpy(t, poses, name)
        if arguments.record:
            record(arguments.record, t)
    finally:
        shutil.rmtree(t.work)
    failed = sum(not r[3] for r in results)
    print(f"{len(results)} checks, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
