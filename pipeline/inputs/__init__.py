"""What people bring: inputs become units, units become chunks of images, chunks are decoded."""
