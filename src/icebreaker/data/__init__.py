"""Training data: texts, synthetic and human speech, manifests, batches."""
