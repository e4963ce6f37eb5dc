"""C kernels for CPUs with AVX512-BF16, and the layers that compute with them.

Each kernel equals a torch implementation in `lx.nn` up to rounding; `supports()` decides which of the two runs. Read
`swap` first (it puts kernel-backed layers in the place of those of `lx.nn`), then `layers`, then the operations with
their gradients: `rows`, `linear` and `attention`, each beside the C file of the same name. `binding` calls into the
compiled library and `build` compiles it.
"""
