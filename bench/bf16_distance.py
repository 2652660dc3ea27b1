"""How far PyTorch itself comes from the golden tensors when it computes in bfloat16: the yardstick of tests/tolerance.c
for tensors on which 2e-2 is out of reach.

The golden tensors were computed in float32 with small random networks, some of which amplify what goes into them: a
relative change of Gemma-2's embeddings comes out four to eight times as large. So a bound on a bf16 run has to come from a
bf16 run. Two kinds of them:

  library   the public classes of transformers and diffusers in torch.bfloat16, as their users run them;
  emulated  bench/pytorch_reference.py in float32 with results rounded to bf16 where the reference stores them. Roundings
            inside the gated delta rule, and of SiLU, are left out, so that the distance is rather too small.

    python bench/bf16_distance.py          (torch, transformers, diffusers; bench/README.md; a few seconds on a CPU)

Reads tests/golden alone, writes nothing. Columns: relative L2 distance of a float32 run, which shows that the run is the
right one, and of a bf16 run."""

import ast
import inspect
import json
import math
import pathlib
import sys
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode

warnings.filterwarnings("ignore")
root = pathlib.Path(__file__).resolve().parent.parent
golden = root / "tests/golden"
sys.dont_write_bytecode = True  # nothing is left in the tree
sys.path.insert(0, str(root / "bench"))
import diffusers  # noqa: E402
from diffusers import AutoencoderKLLTX2Video  # noqa: E402
import transformers  # noqa: E402
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel  # noqa: E402
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors, per_layer_masked_mean_norm  # noqa: E402
from pytorch_reference import Transformer  # noqa: E402

diffusers.logging.set_verbosity_error()
transformers.logging.set_verbosity_error()
kinds = (torch.float32, torch.bfloat16)
levels = [0.909375, 0.725, 0.421875, 0.0]  # of the refiner


def read(name):
    """Tensors and config of a golden file."""
    path = golden / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    return load_file(path), config


def weights_of(tensors):
    return {name.removeprefix("weight."): t for name, t in tensors.items() if name.startswith("weight.")}


def distance(got, want):
    got, want = got.double(), want.double()
    return float((got - want).norm() / want.norm())


def report(name, kind, runs, want):
    """`runs`: the results in float32 and in bf16."""
    exact, rounded = (distance(r.float(), want.float()) for r in runs)
    print(f"{name:32} {kind:9} {exact:8.1e} {rounded:8.2e}   1.5 x: {1.5 * rounded:.1e}")


def build(network, config, weights, kind):
    """A network of diffusers; keys that its constructor does not know are the file's own notes."""
    known = inspect.signature(network.__init__).parameters
    model = network(**{k: v for k, v in config.items() if k in known})
    model.load_state_dict(weights)
    return model.to(kind).eval()


def directory_of(name):
    """Config and weights of a directory of the small model."""
    directory = golden / "tiny_random_model" / name
    weights = {}
    for path in directory.glob("*.safetensors"):
        weights |= load_file(path)
    return json.loads((directory / "config.json").read_text()), weights


def part_of(tensors, part):
    return {n.removeprefix(part): t for n, t in weights_of(tensors).items() if n.startswith(part)}


# ---- text encoders --------------------------------------------------------------------------------------------------


def encoder(family, config, weights, kind):
    classes = {2: (transformers.Gemma2Config, transformers.Gemma2Model),
               3: (transformers.Gemma3TextConfig, transformers.Gemma3TextModel)}[family]
    model = classes[1](classes[0](**config, attn_implementation="eager"))  # eager: the only one that knows soft-capping
    model.load_state_dict(weights)
    return model.to(kind).eval()


@torch.inference_mode()
def text_golden(name, family):
    tensors, config = read(name)
    mask = tensors["in.mask"]
    seen = mask.bool()
    runs = []
    for kind in kinds:
        model = encoder(family, config, weights_of(tensors), kind)
        out = model(input_ids=tensors["in.ids"], attention_mask=mask, output_hidden_states=True)
        runs.append((out.hidden_states, out.last_hidden_state))
    depth = config["num_hidden_layers"]
    for i, key in enumerate(["act.embed"] + [f"act.layer{i}" for i in range(depth - 1)]):
        if key in tensors:
            report(f"{name} {key}", "library", [r[0][i][seen] for r in runs], tensors[key][seen])
    report(f"{name} out.last_hidden", "library", [r[1][seen] for r in runs], tensors["out.last_hidden"][seen])


@torch.inference_mode()
def gemma3_golden():
    tensors, config = read("gemma3")
    config["rope_parameters"] = ast.literal_eval(config.pop("rope"))
    seen = tensors["in.mask"].bool()
    runs = []
    for kind in kinds:
        model = encoder(3, config, weights_of(tensors), kind)
        out = model(input_ids=tensors["in.ids"], attention_mask=tensors["in.mask"], output_hidden_states=True)
        runs.append(torch.stack(out.hidden_states, -1)[seen])
    want = tensors["out.hidden_states"][seen]
    report("gemma3 out.hidden_states", "library", runs, want)
    report("  the last of them", "library", [r[..., -1] for r in runs], want[..., -1])


@torch.inference_mode()
def connectors_golden():
    tensors, config = read("refiner")
    runs = []
    for kind in kinds:
        model = build(LTX2TextConnectors, config["connectors"], part_of(tensors, "connectors."), kind)
        runs.append(model(tensors["act.packed"].to(kind), tensors["in.mask"])[0])
    report("refiner act.prompt_embeds", "library", runs, tensors["act.prompt_embeds"])


@torch.inference_mode()
def prompts(tensors, kind):
    """States of the prompt and of the negative prompt, which is one token: (20,48) each."""
    model = encoder(2, *directory_of("text_encoder"), kind)
    ids = tensors["act.cond_ids"]
    kept = tensors["act.cond_mask"].shape[1]
    states = model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state[0]
    negative = F.pad(ids[:, :1], (0, kept - 1))
    return (torch.cat([states[:1], states[1 - kept:]]),
            model(input_ids=negative, attention_mask=tensors["act.neg_mask"]).last_hidden_state[0])


# ---- video autoencoder ------------------------------------------------------------------------------------------------


def normalised(model, mean):
    row = lambda v: v.to(mean.dtype).view(1, -1, 1, 1, 1)
    return (mean - row(model.latents_mean)) * model.config.scaling_factor / row(model.latents_std)


@torch.inference_mode()
def vae_golden():
    tensors, config = read("vae")
    names = ["conv_in", "down_blocks.0", "down_blocks.1", "down_blocks.3", "mid_block", "conv_out"]
    runs = []
    for kind in kinds:
        model, seen = build(AutoencoderKLLTX2Video, config, weights_of(tensors), kind), {}
        hooks = [model.encoder.get_submodule(n).register_forward_hook(lambda m, i, o, n=n: seen.__setitem__(n, o)) for n in names]
        seen["image"] = model.encode(tensors["in.image"].to(kind)).latent_dist.mode()
        for hook in hooks:
            hook.remove()
        seen["video"] = model.encode(tensors["in.video"].to(kind)).latent_dist.mode()
        seen["decoded"] = model.decode(tensors["in.z"].to(kind)).sample
        runs.append(seen)
    for n in names:
        report(f"vae img.act.encoder.{n}", "library", [r[n] for r in runs], tensors[f"img.act.encoder.{n}"])
    report("vae out.image_latent", "library", [r["image"] for r in runs], tensors["out.image_latent"])
    report("vae out.video_latent", "library", [r["video"] for r in runs], tensors["out.video_latent"])
    report("vae out.decoded", "library", [r["decoded"] for r in runs], tensors["out.decoded"])


@torch.inference_mode()
def first_latent(tensors, kind):
    model = build(AutoencoderKLLTX2Video, *directory_of("vae"), kind)
    picture = (tensors["in.image_u8"].float() / 255 * 2 - 1).permute(2, 0, 1)[None, :, None]
    return normalised(model, model.encode(picture.to(kind)).latent_dist.mode())


# ---- diffusion transformer --------------------------------------------------------------------------------------------


def to_bf16(x):
    return x.bfloat16().float() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x


class Rounding(TorchFunctionMode):
    """Results of products, norms and sums become bf16 numbers; products also read bf16."""

    products = {F.linear, F.conv2d, F.scaled_dot_product_attention}
    others = {F.layer_norm, F.rms_norm, torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.mul, torch.Tensor.__mul__}
    paused = False

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function in self.products:
            return to_bf16(function(*map(to_bf16, arguments), **(options or {})))
        result = function(*arguments, **(options or {}))
        return to_bf16(result) if function in self.others and not self.paused else result


class RoundedTransformer(Transformer):
    def __init__(self, path, head, every):
        super().__init__(path, head, every)
        self.rounding = Rounding()
        for block in self.blocks:
            if not block.softmax:  # the only weights that are no bf16 numbers in their files
                block.rate, block.dt_bias = to_bf16(block.rate.log()).exp(), to_bf16(block.dt_bias)

    def delta_attention(self, *operands):
        """Float32 from the projections to the result, as in the reference's kernels."""
        self.rounding.paused = True
        try:
            return tuple(map(to_bf16, super().delta_attention(*operands)))
        finally:
            self.rounding.paused = False

    def prepare(self, conditions, plucker, states, mask):
        with self.rounding:
            super().prepare(to_bf16(conditions), to_bf16(plucker), to_bf16(states), mask)
        self.rays, self.rays_inverse = to_bf16(self.rays), to_bf16(self.rays_inverse)

    def forward(self, latent, timesteps):
        with self.rounding:
            return super().forward(to_bf16(latent), timesteps)


def transformer(path, head, every, kind):
    return (Transformer if kind == torch.float32 else RoundedTransformer)(path, head, every)


def walk(steps, dt=1 / 16, speed=0.025, degrees=0.6):
    """Poses (n+1,4,4) of (keys, frames) with the keys w and d alone: MODEL.md, "Camera"."""
    pose, poses, velocity, held = np.eye(4), [np.eye(4)], np.zeros(2), set()
    for keys, frames in steps:
        for _ in range(frames):
            target = np.array([speed * ("w" in keys), math.radians(degrees) * ("d" in keys)])
            fresh = set(keys) - held
            pace = 1 - np.exp(-dt / np.where(target != 0, 0.45, 1.0))
            velocity = target if fresh else velocity + pace * (target - velocity)
            held = set(keys)
            c, s = math.cos(velocity[1]), math.sin(velocity[1])
            pose = pose.copy()
            pose[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ pose[:3, :3]
            ahead = pose[:3, 2] * [1, 0, 1]
            pose[:3, 3] += ahead / (np.linalg.norm(ahead) + 1e-6) * velocity[0]
            poses.append(pose)
    return np.stack(poses)


def cameras(poses, intrinsics, size):
    """Ray map (T,20) and Plucker chunks (48,T,h,w) of poses that begin with the identity: MODEL.md, "Camera"."""
    height, width = size[0] // 32, size[1] // 32
    fx, fy, cx, cy = cells = np.array(intrinsics, float) / 32
    conditions = np.stack([np.concatenate([p.ravel(), cells]) for p in poses[::8]])
    v, u = np.mgrid[:height, :width]
    rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones((height, width))], -1)
    chunks = []
    for frame in range(len(conditions)):
        start, rows = max(0, 8 * frame - 7), []
        for pose in poses[[min(i, len(poses) - 1) for i in range(start, start + 8)]]:
            d = rays @ pose[:3, :3].T
            d /= np.linalg.norm(d, axis=-1, keepdims=True)
            rows += [d, np.cross(np.broadcast_to(pose[:3, 3], d.shape), d)]
        chunks.append(np.concatenate(rows, -1).transpose(2, 0, 1))
    return torch.tensor(conditions).float(), torch.tensor(np.stack(chunks, 1)).float()


def schedule(steps, shift):
    """Sigmas, 0 behind the last: MODEL.md, "Sampling"."""
    least = shift * 0.001 / (1 + (shift - 1) * 0.001)
    grid = np.linspace(1, least, steps)
    return np.append(shift * grid / (1 + (shift - 1) * grid), 0).astype(np.float32)


@torch.inference_mode()
def sampled(tensors, config, kind, states, first):
    """The clip's latent after all steps."""
    store = to_bf16 if kind == torch.bfloat16 else lambda x: x
    conditions, plucker = cameras(walk([("w", 12), ("dw", 12)]), config["intrinsics"], config["size"])
    networks = []
    for branch, mask in zip(states, (tensors["act.cond_mask"][0], tensors["act.neg_mask"][0])):
        network = transformer(golden / "tiny_random_model/dit/sana_wm_1600m_720p.safetensors", 32, 4, kind)
        network.prepare(conditions, plucker, branch.float(), mask)
        networks.append(network)
    x = store(tensors["in.noise"][0].float().clone())
    x[:, 0] = first[0, :, 0].float()
    sigmas = schedule(config["steps"], config["flow_shift"])
    for now, after in zip(sigmas[:-1], sigmas[1:]):
        time = torch.full((x.shape[1],), float(now * np.float32(1000)))
        time[0] = 0
        prompt, negative = (n.forward(x, time) for n in networks)
        velocity = store(negative + store(config["cfg_scale"] * store(prompt - negative)))
        x[:, 1:] = store(x[:, 1:] - float(now - after) * velocity[:, 1:])
    return x[None]


def pipeline_golden():
    tensors, config = read("pipeline")
    states = [prompts(tensors, kind) for kind in kinds]
    for i, name in enumerate(("cond", "neg")):
        seen = tensors[f"act.{name}_mask"][0].bool()
        report(f"pipeline act.{name}", "library", [s[i][seen] for s in states], tensors[f"act.{name}"][0, 0][seen])
    first = [first_latent(tensors, kind) for kind in kinds]
    report("pipeline act.first_latent", "library", first, tensors["act.first_latent"])
    final = [sampled(tensors, config, kind, s, f) for kind, s, f in zip(kinds, states, first)]
    report("pipeline act.latent", "emulated", final, tensors["act.latent"])
    exact = sampled(tensors, config, torch.bfloat16, states[0], first[0])
    report("  with exact text and picture", "emulated", [final[0], exact], tensors["act.latent"])
    better = [refined(tensors, config, kind, z) for kind, z in zip(kinds, final)]
    report("pipeline act.refined", "emulated", better, tensors["act.refined"])


# ---- refiner, one shot --------------------------------------------------------------------------------------------------


def video_stream(model, tokens, states, sigmas, rotation, mask):
    """Velocity of tokens (1,N,c) at sigmas (1,N): the modules of LTX-2's video side in their order, without audio."""
    text = model.caption_projection(states)
    modulation, embedded = model.time_embed((sigmas * 1000).flatten(), batch_size=1, hidden_dtype=tokens.dtype)
    modulation, embedded = modulation.view(1, tokens.shape[1], -1), embedded.view(1, tokens.shape[1], -1)
    x = model.proj_in(tokens)
    for block in model.transformer_blocks:
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = block.get_mod_params(block.scale_shift_table, modulation, 1)[:6]
        n = block.norm1(x) * (1 + scale) + shift
        x = x + block.attn1(hidden_states=n, query_rotary_emb=rotation, attention_mask=mask) * gate
        x = x + block.attn2(block.norm2(x), encoder_hidden_states=text)
        x = x + block.ff(block.norm3(x) * (1 + ffn_scale) + ffn_shift) * ffn_gate
    shift, scale = (model.scale_shift_table[None, None] + embedded[:, :, None]).unbind(2)
    return model.proj_out(model.norm_out(x) * (1 + scale) + shift)


def one_shot(model, z, noise, states, levels, fps, kind):
    """The refined latent, of z's shape."""
    frames, height, width = z.shape[2:]
    pack = lambda x: x.flatten(2).mT
    sink = torch.arange(frames * height * width) < height * width
    mask = torch.zeros(1, len(sink), len(sink), dtype=kind)
    mask[:, sink[:, None] & ~sink] = -math.inf  # the sink sees itself only
    rotation = model.rope(model.rope.prepare_video_coords(1, frames, height, width, z.device, fps=fps), device=z.device)
    first, *later = levels
    clean, noise = z[:, :, 1:].to(kind), noise.to(kind)
    x = pack(torch.cat([z[:, :, :1].to(kind), (1 - first) * clean + first * noise], 2))
    for now, after in zip(levels, later):
        sigmas = torch.where(sink, 0.0, now)[None]
        velocity = video_stream(model, x, states.to(kind), sigmas, rotation, mask)
        x0 = (x.float() - velocity.float() * sigmas[..., None]).to(kind)
        slope = (x.float() - x0.float()) / now
        x = torch.where(sink[None, :, None], x, (x.float() + slope * (after - now)).to(kind))
    return x.mT.reshape(z.shape)


@torch.inference_mode()
def refiner_golden():
    tensors, config = read("refiner")
    runs = []
    for kind in kinds:
        model = build(LTX2VideoTransformer3DModel, config["transformer"], part_of(tensors, "transformer."), kind)
        runs.append(one_shot(model, tensors["in.z"], tensors["noise.bidirectional"], tensors["act.prompt_embeds"],
                             config["sigmas"], config["fps"], kind))
    report("refiner out.bidirectional", "library", runs, tensors["out.bidirectional"])


@torch.inference_mode()
def refined(tensors, config, kind, z):
    """The small model's second stage: its prompt through Gemma-3 and the connectors, its latent z in one shot."""
    ids = tensors["act.refiner_ids"]
    mask = (ids != 0).long()
    gemma = encoder(3, *directory_of("refiner/text_encoder"), kind)
    states = torch.stack(gemma(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states, -1)
    packed = per_layer_masked_mean_norm(states, mask.sum(1), states.device)
    states = build(LTX2TextConnectors, *directory_of("refiner/connectors"), kind)(packed, mask)[0]
    model = build(LTX2VideoTransformer3DModel, *directory_of("refiner/transformer"), kind)
    return one_shot(model, z, tensors["in.refiner_noise"], states, levels, config["fps"], kind)


# ---- the emulation against the reference's own bf16 run ---------------------------------------------------------------


@torch.inference_mode()
def dit_golden(name):
    tensors, config = read(name)
    _, recorded = read("bf16_reference")
    path = golden / f"{name}.safetensors"
    runs = []
    for kind in kinds:
        network = transformer(path, config["linear_head_dim"], config["softmax_every_n"], kind)
        rows = []
        for i in range(tensors["in.x"].shape[0]):
            network.prepare(tensors["in.camera_conditions"][i], tensors["in.chunk_plucker"][i], tensors["in.y"][i, 0],
                            tensors["in.mask"][i])
            rows.append(network.forward(tensors["in.x"][i], tensors["in.timestep"][i, 0]))
        runs.append(torch.stack(rows))
    report(f"{name} out", "emulated", runs, tensors["out"])
    print(f"{'':32} recorded           {recorded[name]['out']:8.2e}")


def main():
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, diffusers {diffusers.__version__}")
    print(f"{'tensor':32} {'':9} {'float32':>8} {'bf16':>8}")
    text_golden("gemma2", 2)
    gemma3_golden()
    connectors_golden()
    vae_golden()
    refiner_golden()
    dit_golden("dit_bidirectional")
    dit_golden("dit_bidirectional_d112")
    pipeline_golden()


if __name__ == "__main__":
    main()
