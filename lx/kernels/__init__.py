"""C kernels: for CPUs with AVX512-BF16, with the layers that compute with them, and for n-grams on any CPU.

Each kernel equals a torch implementation in `lx.nn` up to rounding; `supports()` decides which of the two runs. Read
`swap` first (it puts kernel-backed layers in the place of those of `lx.nn`), then `layers`, then the operations with
their gradients: `rows`, `linear` and `attention`, each beside the C file of the same name. `ngrams` is used by
`lx.linear` and needs nothing but a compiler: its C file is in `portable`. `binding` calls into the compiled libraries
and `build` compiles them.
"""
