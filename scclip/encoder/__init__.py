"""The image encoder: open_clip towers whose last block is calibrated as SC-CLIP describes."""
