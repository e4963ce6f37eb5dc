"""Several ranks that train one run.

Read `rank_info` (which of the ranks is this one), `process_group` (the collectives) and `watch` (of the other ranks),
then `gradient_sync` (how gradients are combined) and `fsdp` (weights in shards). Everything works for one rank too, and
does nothing there.
"""
