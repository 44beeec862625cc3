//! Backbones, heads, optimiser, augmentation, the one training loop, checkpoints, device.
