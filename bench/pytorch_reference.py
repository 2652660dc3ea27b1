"""The stage-1 diffusion transformer of SANA-WM in plain PyTorch: the other side of bench/compare_pytorch.py.

Written for reading and for a fair race: float32, one sample, a whole clip seen both ways, all frames and heads in one
call of an operator wherever the maths allows it, F.scaled_dot_product_attention for softmax, and everything that does
not depend on the timestep computed once in `prepare`. MODEL.md tells the maths.

Tokens are frame-major, then row, then column; N = T*S tokens of C channels in H heads of D.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


def pair_rotation(x, table):
    """Multiply pairs (2i, 2i+1) of the last dimension by unit complex numbers: x (N,H,D), table (N,1,D/2)."""
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * table).flatten(-2)


def rotation_tables(frames, height, width, head):
    """Unit complex numbers of a whole head, (N,1,D/2), and of the half head of the camera branch, (N,1,D/4)."""
    side = 2 * (head // 6)
    parts = [torch.arange(0, d, 2, dtype=torch.float64) / d for d in (head - 2 * side, side, side)]
    positions = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (frames, height, width)), indexing="ij")
    angles = [p.reshape(-1, 1) * 10000.0 ** -e for p, e in zip(positions, parts)]
    half = head // 4
    kept = (half - 2 * (half // 3), half // 3, half // 3)
    tables = (torch.cat(angles, 1), torch.cat([a[:, :n] for a, n in zip(angles, kept)], 1))
    return [torch.polar(torch.ones_like(t), t).to(torch.complex64)[:, None] for t in tables]


def ray_matrices(conditions, height, width):
    """World to ray and back, (N,4,4) each, from (T,20): camera to world, then fx fy cx cy in latent cells."""
    frames = conditions.shape[0]
    pose = conditions[:, :16].reshape(frames, 4, 4)
    rotation, centre = pose[:, :3, :3], pose[:, :3, 3]
    fx, fy, cx, cy = (c[:, None, None] for c in conditions[:, 16:].unbind(1))
    v, u = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    x, y = torch.broadcast_tensors((u - cx) / fx, (v - cy) / fy)
    d = F.normalize(torch.stack([x, y, torch.ones_like(x)], -1), dim=-1).reshape(frames, -1, 3)
    z = F.normalize(d @ rotation.mT, dim=-1)
    across = F.normalize(torch.linalg.cross(rotation[:, None, :, 1].expand_as(z), z), dim=-1)
    down = F.normalize(torch.linalg.cross(z, across), dim=-1)
    world_to_ray = torch.eye(4).repeat(frames, height * width, 1, 1)
    axes = torch.stack([across, down, z], -2)
    world_to_ray[..., :3, :3] = axes
    world_to_ray[..., :3, 3] = -(axes @ centre[:, None, :, None]).squeeze(-1)
    world_to_ray = world_to_ray.flatten(0, 1)
    return world_to_ray, torch.linalg.inv(world_to_ray)


class Block:
    """Weights of one block, in the shapes that the operators want."""

    def __init__(self, weights, index, softmax):
        prefix = f"blocks.{index}."
        w = {name[len(prefix):]: t for name, t in weights.items() if name.startswith(prefix)}
        self.softmax = softmax
        self.table = w["scale_shift_table"]
        linear = lambda name: (w[name + ".weight"].flatten(1), w.get(name + ".bias"))
        # One product gives all that reads the block's input: q, k, v, the camera's q, k, v, and the output gate.
        names = ["attn.qkv", "attn.q_proj_cam", "attn.k_proj_cam", "attn.v_proj_cam", "attn.output_gate"]
        self.inputs = (torch.cat([w[n + ".weight"] for n in names]),
                       torch.cat([w.get(n + ".bias", torch.zeros(w[n + ".weight"].shape[0])) for n in names]))
        self.norms = [w[f"attn.{n}.weight"] for n in ("q_norm", "k_norm", "q_norm_cam", "k_norm_cam")]
        self.out_camera, self.projection = linear("attn.out_proj_cam"), linear("attn.proj")
        self.plucker = linear("plucker_proj")
        self.cross_q, self.cross_kv, self.cross_out = (linear(f"cross_attn.{n}") for n in ("q_linear", "kv_linear", "proj"))
        self.cross_norms = [w["cross_attn.q_norm.weight"], w["cross_attn.k_norm.weight"]]
        self.expand, self.contract = linear("mlp.inverted_conv.conv"), w["mlp.point_conv.conv.weight"].flatten(1)
        self.depthwise = (w["mlp.depth_conv.conv.weight"], w["mlp.depth_conv.conv.bias"])
        self.temporal = w["mlp.t_conv.weight"]
        if softmax:
            return
        self.beta, self.decay = linear("attn.beta_proj"), linear("attn.gate_proj")
        self.rate, self.dt_bias = w["attn.A_log"].exp(), w["attn.dt_bias"]
        # The causal taps and their mirror image share the centre: seven symmetric taps over time, one filter a channel.
        self.taps = [torch.cat([t, t[..., :3].flip(-1)], -1)[..., None] for t in (w["attn.conv_k.weight"], w["attn.conv_k_cam.weight"])]


class Transformer:
    def __init__(self, path, head=112, softmax_every=4):
        w = {name.removeprefix("weight."): t.float() for name, t in load_file(path).items()}
        self.w, self.head = w, head
        self.channels = w["x_embedder.proj.weight"].shape[0]
        self.heads = self.channels // head
        depth = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))
        self.blocks = [Block(w, i, (i + 1) % softmax_every == 0) for i in range(depth)]

    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"].flatten(1), self.w[name + ".bias"])

    # ---- once a clip ---------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def prepare(self, conditions, plucker, states, mask):
        """conditions (T,20), plucker (48,T,h,w), caption states (L,width) and mask (L)."""
        _, self.frames, self.height, self.width = plucker.shape
        self.tokens = self.height * self.width
        self.rotation, self.camera_rotation = rotation_tables(self.frames, self.height, self.width, self.head)
        self.rays, self.rays_inverse = ray_matrices(conditions, self.height, self.width)
        embedded = self.linear(plucker.flatten(1).T, "plucker_embedder.proj")
        y = F.gelu(self.linear(states, "y_embedder.y_proj.fc1"), approximate="tanh")
        y = self.linear(y, "y_embedder.y_proj.fc2")
        y = F.rms_norm(y, y.shape[-1:], self.w["attention_y_norm.weight"], 1e-5)
        self.text_bias = torch.where(mask.bool(), 0.0, -10000.0)[None, None]
        self.plucker, self.text = embedded, []
        for block in self.blocks:
            k, v = F.linear(y, *block.cross_kv).chunk(2, -1)
            k = F.rms_norm(k, k.shape[-1:], block.cross_norms[1], 1e-6)
            self.text.append((self.split(k), self.split(v)))

    # ---- mixing tokens -------------------------------------------------------------------------------------------

    def split(self, x):
        """(N,C) to (1,H,N,D)."""
        return x.unflatten(-1, (self.heads, self.head)).transpose(0, 1)[None]

    def attend(self, q, k, v, bias=None):
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return o[0].transpose(0, 1).flatten(1)

    def ray_transform(self, x, matrices, table):
        """x (N,C): 4x4 products on the first half of each head, rotation of the second."""
        x = x.unflatten(-1, (self.heads, self.head))
        first, second = x.chunk(2, -1)
        first = torch.bmm(first.reshape(x.shape[0], -1, 4), matrices.mT).view_as(first)
        return torch.cat([first, pair_rotation(second.contiguous(), table)], -1)

    def temporal_taps(self, k, taps):
        """Seven depthwise taps over time: (N,C) -> (N,C)."""
        k = k.view(1, self.frames, self.tokens, self.channels).permute(0, 3, 1, 2)
        return F.conv2d(k, taps, padding=(3, 0), groups=self.channels).permute(0, 2, 3, 1).reshape(-1, self.channels)

    def frames_of(self, x):
        """(N,H,D) to (T*H,S,D)."""
        return x.view(self.frames, self.tokens, self.heads, -1).transpose(1, 2).flatten(0, 1)

    def scan(self, transition, content):
        """M_f = transition_f M_{f-1} + content_f forward and inclusive, plus the same backward and exclusive, both at
        once as one batch: transition (T,H,D,D), content (T,H,D,V) -> (T,H,D,V)."""
        both = torch.cat([transition, transition.flip(0)], 1)
        content = torch.cat([content, content.flip(0)], 1)
        state, states = content[0], [content[0]]
        for f in range(1, self.frames):
            state = torch.baddbmm(content[f], both[f], state)
            states.append(state)
        ahead, behind = torch.stack(states).chunk(2, 1)
        ahead[:-1] += behind[:-1].flip(0)
        return ahead

    def transition(self, keys, weighted, decay):
        """decay (I - sum beta k k^T): (T,H,D,D)."""
        outer = torch.bmm(weighted.mT, keys).unflatten(0, (self.frames, self.heads))
        return decay[..., None, None] * (torch.eye(self.head) - outer)

    def delta_rule(self, q, k, v, beta, decay):
        """The memory's answer to the queries, all (T*H,S,D); beta (T*H,S,1)."""
        weighted = beta * k
        content = torch.bmm(weighted.mT, v).unflatten(0, (self.frames, self.heads))
        memory = self.scan(self.transition(k, weighted, decay), content)
        return torch.bmm(q, memory.flatten(0, 1))

    def join(self, o):
        """(T*H,S,D) to (N,C)."""
        return o.view(self.frames, self.heads, self.tokens, self.head).transpose(1, 2).reshape(-1, self.channels)

    # ---- a block -------------------------------------------------------------------------------------------------

    def softmax_attention(self, block, q, k, v, qc, kc, vc):
        norm = lambda x, w: F.rms_norm(x, x.shape[-1:], w, 1e-5)
        turn = lambda x: pair_rotation(x.unflatten(-1, (self.heads, self.head)), self.rotation).transpose(0, 1)[None]
        move = lambda x, m: self.ray_transform(x, m, self.camera_rotation).transpose(0, 1)[None]
        main = self.attend(turn(norm(q, block.norms[0])), turn(norm(k, block.norms[1])), self.split(v))
        camera = self.attend(move(norm(qc, block.norms[2]), self.rays.mT), move(norm(kc, block.norms[3]), self.rays_inverse),
                             move(vc, self.rays_inverse))
        return main, camera

    def delta_attention(self, block, a, q, k, v, qc, kc, vc):
        heads = (self.heads, self.head)
        scale = (self.head * self.tokens) ** -0.5
        feature = lambda x, w: F.relu(F.rms_norm(x, x.shape[-1:], w, 1e-5))
        beta = torch.sigmoid(F.linear(a, *block.beta))
        mean = a.view(self.frames, self.tokens, -1).mean(1)
        decay = torch.exp(-block.rate * F.softplus(F.linear(mean, *block.decay) + block.dt_bias))
        beta_rows = self.frames_of(beta)

        q = feature(q, block.norms[0]).unflatten(-1, heads)
        k = (feature(self.temporal_taps(k, block.taps[0]), block.norms[1]) * scale).unflatten(-1, heads)
        qh, kh = self.frames_of(q), self.frames_of(k)
        qr, kr = self.frames_of(pair_rotation(q, self.rotation)), self.frames_of(pair_rotation(k, self.rotation))
        main = self.delta_rule(qr, kr, self.frames_of(v.unflatten(-1, heads)), beta_rows, decay)
        weighted = beta_rows * kh
        content = weighted.sum(1).unflatten(0, (self.frames, self.heads))[..., None]
        z = self.scan(self.transition(kh, weighted, decay), content)
        main = main / (torch.bmm(qh, z.flatten(0, 1)) + 1e-8)

        qc = feature(qc, block.norms[2])
        kc = feature(self.temporal_taps(kc, block.taps[1]), block.norms[3]) * scale
        kt = self.ray_transform(kc, self.rays_inverse, self.camera_rotation)
        before = kc.unflatten(-1, heads).square().sum(-1).clamp_min(1e-12)
        inflation = (kt.square().sum(-1).clamp_min(1e-12) / before).view(self.frames, self.tokens, self.heads).mean(1)
        camera_beta = beta.view(self.frames, self.tokens, self.heads) / inflation.clamp_min(1)[:, None]
        camera = self.delta_rule(self.frames_of(self.ray_transform(qc, self.rays.mT, self.camera_rotation)),
                                 self.frames_of(kt),
                                 self.frames_of(self.ray_transform(vc, self.rays_inverse, self.camera_rotation)),
                                 self.frames_of(camera_beta), decay)
        return self.join(main), self.join(camera)

    def self_attention(self, block, a):
        *mixed, gate = F.linear(a, *block.inputs).chunk(7, -1)
        main, camera = self.softmax_attention(block, *mixed) if block.softmax else self.delta_attention(block, a, *mixed)
        camera = self.ray_transform(camera, self.rays, self.camera_rotation.conj()).flatten(1)
        main = main + F.linear(camera, *block.out_camera)
        return F.linear(main * F.silu(gate), *block.projection)

    def feed_forward(self, block, m):
        e = F.silu(F.linear(m, *block.expand))
        e = e.view(self.frames, self.height, self.width, -1).permute(0, 3, 1, 2)
        e = F.conv2d(e, *block.depthwise, padding=1, groups=e.shape[1]).permute(0, 2, 3, 1).reshape(m.shape[0], -1)
        value, gate = e.chunk(2, -1)
        p = F.linear(value * F.silu(gate), block.contract)
        volume = p.view(1, self.frames, self.tokens, self.channels).permute(0, 3, 1, 2)
        return p + F.conv2d(volume, block.temporal, padding=(1, 0)).permute(0, 2, 3, 1).reshape_as(p)

    def block(self, index, x, time):
        block = self.blocks[index]
        rows = (time + block.table).repeat_interleave(self.tokens, 0).unbind(1)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = rows
        norm = lambda t: F.layer_norm(t, t.shape[-1:], eps=1e-6)
        x = x + gate * self.self_attention(block, norm(x) * (1 + scale) + shift)
        x = x + F.linear(self.plucker, *block.plucker)
        q = F.rms_norm(F.linear(x, *block.cross_q), x.shape[-1:], block.cross_norms[0], 1e-6)
        x = x + F.linear(self.attend(self.split(q), *self.text[index], self.text_bias), *block.cross_out)
        return x + ffn_gate * self.feed_forward(block, norm(x) * (1 + ffn_scale) + ffn_shift)

    @torch.inference_mode()
    def forward(self, latent, timesteps):
        """Flow velocity (c,T,h,w) of latent (c,T,h,w) at timesteps (T)."""
        frequency = 10000.0 ** (-torch.arange(128, dtype=torch.float64) / 128)
        angle = timesteps.trunc().double()[:, None] * frequency
        time = torch.cat([angle.cos(), angle.sin()], -1).float()
        time = self.linear(F.silu(self.linear(time, "t_embedder.mlp.0")), "t_embedder.mlp.2")
        modulation = self.linear(F.silu(time), "t_block.1").unflatten(-1, (6, -1))
        x = self.linear(latent.flatten(1).T, "x_embedder.proj")
        for index in range(len(self.blocks)):
            x = self.block(index, x, modulation)
        shift, scale = (time[:, None] + self.w["final_layer.scale_shift_table"]).repeat_interleave(self.tokens, 0).unbind(1)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return self.linear(x, "final_layer.linear").T.reshape(latent.shape)
