"""From the scanner and back: DICOM objects that stand beside their source, identity, nodes."""
