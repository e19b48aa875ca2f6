"""What a network costs on a device, at any widths: measured of its blocks, and of the whole at some widths."""
