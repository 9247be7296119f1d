"""From words to a configuration, and from that to plain values."""
