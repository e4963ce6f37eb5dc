"""A linear map of n-grams: the expert that stands beside an encoder, and the model to beat.

Read ``ngrams`` first (texts to counted hashes of n-grams), then ``features`` (TF-IDF of the n-grams that training
knows), ``targets`` (a class, labels or a number, each with its fit and its calibration), ``solver`` (C by
cross-validation) and ``expert``, which joins them: fitting takes scikit-learn, prediction numpy and torch alone.
"""
