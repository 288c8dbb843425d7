"""From the configuration to objects: the only room below the tasks that reads a composed configuration."""
