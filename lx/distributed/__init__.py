"""Several ranks that train one run.

Read `rank_info` (which of the ranks is this one) and `process_group` (the collectives), then `gradient_sync` (how
gradients are combined) and `fsdp` (weights in shards). Everything works for one rank too, and does nothing there.
"""
