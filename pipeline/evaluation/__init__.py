"""Labels against ground truth: confusion matrices and the figures made of them."""
