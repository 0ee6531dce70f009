"""Registration: the displacement that brings a moving image onto a fixed one."""
