"""Parameter groups, optimizers and learning-rate schedules.

Read `groups` first (which parameters are decayed), then `schedules`. SGD, Adam and AdamW are torch's: their formulas
stand in `conf/optimizer`. `muon` combines two of torch's optimizers.
"""
