"""What a Transformer computes, in C, for processors with AVX512-BF16: see `lx.kernels.ops`."""
