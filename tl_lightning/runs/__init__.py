"""From a configuration to a run's folder, and back: the only rooms that know Hydra."""
