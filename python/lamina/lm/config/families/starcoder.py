"""StarCoder 2."""

from lamina.lm.config.families.common import layers_of, plain_rotary, read_activation, read_sizes, read_tied
from lamina.lm.config.fields import Fields
from lamina.lm.config.spec import DecoderConfig, MLPConfig, NormConfig

_NAMES = {"up_proj": "c_fc", "down_proj": "c_proj"}


def read_starcoder2(f: Fields) -> DecoderConfig:
    """Layer norms, a plain MLP, biases everywhere, a sliding window."""
    sizes = read_sizes(f, context=4096)
    bias = f.flag("use_bias", default=True)
    attention = sizes.attention(plain_rotary(f, sizes), qkv_bias=bias, out_bias=bias)
    mlp = MLPConfig(
        f.count("intermediate_size"),
        read_activation(f, default="gelu_pytorch_tanh"),
        gated=False,
        bias=bias,
    )
    # Of the training framework; the model is what the other fields say.
    f.ignore("activation_function", "attention_softmax_in_fp32", "layer_norm_epsilon")
    f.ignore("scale_attention_softmax_in_fp32", "scale_attn_weights")
    f.only("mlp_type", "default")
    f.only("norm_type", "layer_norm")
    layers = layers_of(attention, mlp, [f.optional_count("sliding_window")] * sizes.layers)
    norm = NormConfig("layer", f.number("norm_epsilon", default=1e-5), bias=True)
    return sizes.decoder(layers, norm, head=read_tied(f, True), names=_NAMES)
