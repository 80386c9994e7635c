"""What `scclip bench` measures."""
