"""A linear classifier of n-grams: the expert that stands beside an encoder, and the model to beat.

Read ``ngrams`` first (texts to counted hashes of n-grams), then ``features`` (TF-IDF of the n-grams that training
knows), ``solver`` (a linear SVM, its C by cross-validation, calibrated) and ``expert``, which joins them: fitting takes
scikit-learn, prediction numpy and torch alone.
"""
