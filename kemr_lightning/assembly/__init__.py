"""From the configuration to objects: data, module, refiner, metric, trainer, device, and the checkpoint that is meant."""
