"""StableLM."""

from lamina.lm.config.families.common import plain_rotary, read_mlp, read_sizes, read_tied
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, LayerConfig, NormConfig, Norms

_NAMES = {"q_norm": "q_layernorm", "k_norm": "k_layernorm"}


def read_stablelm(f: Fields) -> DecoderConfig:
    """Llama with layer norms and partly rotated heads; some have both branches behind one norm."""
    sizes = read_sizes(f, context=4096)
    eps = f.number("layer_norm_eps", default=1e-5)
    attention = sizes.attention(
        plain_rotary(f, sizes, part=0.25),
        qkv_bias=f.flag("use_qkv_bias", default=False),
        qk_norm=NormConfig("layer", eps, by_head=True) if f.flag("qk_layernorm", default=False) else None,
    )
    parallel = f.flag("use_parallel_residual", default=False)
    norms = Norms(before_mlp=None) if parallel else Norms()
    layer = LayerConfig(attention, read_mlp(f), norms, parallel)
    norm = NormConfig("layer", eps, bias=True)
    return sizes.decoder([layer] * sizes.layers, norm, head=read_tied(f, False), names=_NAMES)
