"""What a pretrained network is worth for a task, from arrays alone: features, labels, the source's own answers."""
