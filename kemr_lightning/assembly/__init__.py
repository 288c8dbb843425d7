"""From the configuration to objects: data, module, refiner, metric, trainer, device, and which checkpoint is meant."""
