"""The survey's other applications: super-resolution, adversarial purification, protein backbones."""
